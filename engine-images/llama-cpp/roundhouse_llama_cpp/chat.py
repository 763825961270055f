"""Chat and completions: the conversation by the model's own template, token by token from llama.cpp.

Requests share passes over the weights (continuous batching): four at once take little longer than one.
"""

import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    Chat,
    Conversation,
    Finish,
    FinishReason,
    Isolation,
    ModelSpec,
    Piece,
    Prompted,
    TextOptions,
    ToolCall,
)
from roundhouse_engine.errors import invalid
from roundhouse_engine.text import Text
from roundhouse_llama_cpp.bounds import (
    check_extensions,
    check_grammar,
    check_length,
    check_schema,
    check_tokens,
    texts,
)
from roundhouse_llama_cpp.llama import Llama, problem, refused
from roundhouse_llama_cpp.settings import read_settings
from roundhouse_llama_cpp.weights import find_weights, read_through

_CONTEXT_TOKENS: Final = 8192
_LOOK_SECONDS: Final = 0.05
_NOT_UNDERSTOOD: Final = ("Failed to parse", "[json.exception")
"""So begins what it says of a request, in the exception that it has for everything else as well."""
_OF_GRAMMARS: Final = ("JSON schema error", "failed to parse grammar", "custom grammar")
_SEEDS: Final = (1 << 32) - 1
"""llama.cpp keeps 32 bits of a seed, and takes this one for a wish for chance."""
_OPTIONS: Final = ("max_tokens", "temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")

Chunk = dict[str, Any]
Ask = Callable[[Chunk, Callable[[Chunk], bool]], Any]
Written = Iterator[Prompted | Piece | Finish]


class LlamaChat(Chat):
    isolation = Isolation.PROCESS
    thread_safe = True
    capacity = 4
    completions = True
    tools = True
    penalties = True
    response_formats: ClassVar[frozenset[str]] = frozenset({"json_object", "json_schema"})
    extensions: ClassVar[frozenset[str]] = frozenset(
        {"top_k", "min_p", "typical_p", "repeat_penalty", "grammar", "chat_template_kwargs"}
    )

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        settings = read_settings(os.environ, context_tokens=_CONTEXT_TOKENS, parallel=self.capacity)
        weights = find_weights(model.name, model.path)
        read_through(weights, progress)
        self._llama = Llama(model.name, weights, settings)

    @override
    def unload(self) -> None:
        del self._llama

    @override
    def vram_bytes(self) -> int | None:
        return self._llama.vram_bytes

    @override
    def chat(self, conversation: Conversation, options: TextOptions, cancellation: Cancellation) -> Written:
        request: Chunk = {"messages": list(conversation.messages)}
        told = [*conversation.messages, options.extensions.get("chat_template_kwargs")]
        check_length(json.dumps(told, ensure_ascii=False), self._llama.context_tokens, "messages")
        self._llama.check_worth("\n".join(texts(told)), "messages")
        check_schema("tools", conversation.tools)
        if conversation.tools:
            if not self._llama.knows_tools:
                message = "The template of this model knows no tools. Send the request without them."
                raise invalid(message, param="tools", code="unsupported_value")
            request["tools"] = list(conversation.tools)
            if conversation.tool_choice is not None:
                request["tool_choice"] = conversation.tool_choice
            if conversation.parallel_tool_calls is not None:
                request["parallel_tool_calls"] = conversation.parallel_tool_calls
        ask = self._llama.server.handle_chat_completions
        return _written(ask, request | _sampling(options), "messages", cancellation)

    @override
    def complete(self, prompt: Text, options: TextOptions, cancellation: Cancellation) -> Written:
        if isinstance(prompt, str):
            check_length(prompt, self._llama.context_tokens, "prompt")
            self._llama.check_worth(prompt, "prompt")
        else:
            check_tokens(len(prompt), self._llama.context_tokens, "prompt")
        request = {"prompt": prompt if isinstance(prompt, str) else list(prompt)} | _sampling(options)
        return _written(self._llama.server.handle_completions, request, "prompt", cancellation)


def _sampling(options: TextOptions) -> Chunk:
    check_extensions(options.extensions)
    check_grammar(options.extensions, options.response_format)
    check_schema("response_format", options.response_format)
    told = {name: value for name in _OPTIONS if (value := getattr(options, name)) is not None}
    if options.seed is not None:
        told["seed"] = options.seed % _SEEDS
    if options.response_format is not None:
        told["response_format"] = dict(options.response_format)
    # `return_progress` makes it speak while it reads a long prompt, and so listen to whether it should go on.
    wanted = {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
    return {**options.extensions, **told, **wanted, "stop": list(options.stop)}


def _written(ask: Ask, request: Chunk, param: str, cancellation: Cancellation) -> Written:
    prompted = False
    reason = FinishReason.STOP
    tokens: int | None = None
    for chunk in _chunks(ask, request, param, cancellation):
        if not prompted and (progress := chunk.get("prompt_progress")):
            prompted = True
            yield Prompted(progress["total"], progress["cache"])
        if usage := chunk.get("usage"):
            tokens = usage["completion_tokens"]
        for choice in chunk.get("choices", ()):
            if piece := _piece(choice):
                yield piece
            if finish := choice.get("finish_reason"):
                reason = FinishReason(finish)
    yield Finish(reason, tokens)


def _piece(choice: Chunk) -> Piece | None:
    if "text" in choice:
        return Piece(choice["text"]) if choice["text"] else None
    delta = choice.get("delta", {})
    calls = tuple(
        ToolCall(
            call["index"],
            call.get("function", {}).get("arguments") or "",
            call.get("id"),
            call.get("function", {}).get("name"),
        )
        for call in delta.get("tool_calls", ())
    )
    text, reasoning = delta.get("content") or "", delta.get("reasoning_content") or ""
    return Piece(text, reasoning=reasoning, tool_calls=calls) if text or reasoning or calls else None


def _chunks(ask: Ask, request: Chunk, param: str, cancellation: Cancellation) -> Iterator[Chunk]:
    """What llama.cpp says, as it says it. It speaks in a thread of its own, and is told there to stop."""
    said: queue.SimpleQueue[Chunk | Exception | None] = queue.SimpleQueue()
    left = threading.Event()

    def hear(chunk: Chunk) -> bool:
        said.put(chunk)
        return left.is_set() or cancellation.cancelled

    def run() -> None:
        try:
            ask(request, hear)
        except Exception as error:  # noqa: BLE001 - raised again below, where the request is
            said.put(error)
        said.put(None)

    speaking = threading.Thread(target=run, daemon=True, name="llama.cpp")
    speaking.start()
    try:
        while (chunk := _next(said, cancellation)) is not None:
            yield _checked(chunk, request, param)
    finally:
        left.set()
        speaking.join()  # the slot is free when it says so, and not before


def _next(
    said: "queue.SimpleQueue[Chunk | Exception | None]", cancellation: Cancellation
) -> Chunk | Exception | None:
    while True:
        try:
            return said.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            cancellation.check()


def _checked(chunk: Chunk | Exception, request: Chunk, param: str) -> Chunk:
    if isinstance(chunk, Exception):
        if isinstance(chunk, ValueError) or str(chunk).startswith(_NOT_UNDERSTOOD):
            # A template, a tool, a message or a schema that it cannot use.
            at_fault = _at_fault(str(chunk), request, param)
            raise refused(chunk, at_fault) from chunk
        raise chunk
    if "error" in chunk:
        raise problem(chunk["error"], _at_fault(str(chunk["error"].get("message")), request, param))
    return chunk


def _at_fault(message: str, request: Chunk, param: str) -> str:
    """The field that it means, which it does not name."""
    if not any(each in message for each in _OF_GRAMMARS):
        return param
    return next((each for each in ("grammar", "response_format", "tools") if request.get(each)), param)
