"""OpenAI's shapes of written text: whole answers and streams, of conversations and of completions. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from roundhouse_engine.events import Done, Event
from roundhouse_engine.text import Finish, Piece, Prompted, ToolCall


@dataclass(slots=True)
class Written:
    """All that the model wrote so far."""

    text: str = ""
    reasoning: str = ""
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    prompted: Prompted = field(default_factory=lambda: Prompted(0))
    finish: Finish = field(default_factory=Finish)
    compute_seconds: float = 0.0
    _tokens: int = 0
    """Of the pieces."""

    def add(self, told: Event) -> None:
        match told:
            case Prompted():
                self.prompted = told
            case Finish():
                self.finish = told
            case Done(seconds):
                self.compute_seconds = seconds
            case Piece():
                self._write(told)
            case _:
                pass  # of the engine's own

    def _write(self, piece: Piece) -> None:
        self._tokens += piece.tokens
        self.text += piece.text
        self.reasoning += piece.reasoning
        for call in piece.tool_calls:
            known = self.calls.setdefault(
                call.index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            )
            known["id"] += call.id or ""
            known["function"]["name"] += call.name or ""
            known["function"]["arguments"] += call.arguments

    @property
    def tokens(self) -> int:
        """That it wrote, also where it was not to come to an end."""
        return self._tokens if self.finish.tokens is None else self.finish.tokens

    @property
    def usage(self) -> dict[str, Any]:
        read, wrote = self.prompted.tokens, self.tokens
        return {
            "prompt_tokens": read,
            "completion_tokens": wrote,
            "total_tokens": read + wrote,
            "prompt_tokens_details": {"cached_tokens": self.prompted.cached},
        }


@dataclass(frozen=True, slots=True)
class ChatShape:
    """Of one answer to a conversation."""

    id: str
    created: int
    model: str
    usage: bool
    """Whether a stream tells it at its end, and so names it in each event."""

    def whole(self, written: Written) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": written.text, "refusal": None}
        if written.reasoning:
            message["reasoning_content"] = written.reasoning
        if written.calls:
            message["content"] = written.text or None
            message["tool_calls"] = [written.calls[index] for index in sorted(written.calls)]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": written.finish.reason}
        return self._object("chat.completion", [choice]) | {"usage": written.usage}

    def head(self) -> Iterator[dict[str, Any]]:
        yield self._chunk({"role": "assistant", "content": ""})

    def piece(self, piece: Piece) -> dict[str, Any]:
        delta: dict[str, Any] = {}
        if piece.text:
            delta["content"] = piece.text
        if piece.reasoning:
            delta["reasoning_content"] = piece.reasoning
        if piece.tool_calls:
            delta["tool_calls"] = [_call(call) for call in piece.tool_calls]
        return self._chunk(delta)

    def tail(self, written: Written) -> Iterator[dict[str, Any]]:
        yield self._chunk({}, written.finish.reason)
        if self.usage:
            yield self._object("chat.completion.chunk", []) | {"usage": written.usage}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._object("chat.completion.chunk", [choice]) | ({"usage": None} if self.usage else {})

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


@dataclass(frozen=True, slots=True)
class CompletionShape:
    id: str
    created: int
    model: str
    usage: bool

    def whole(self, written: Written) -> dict[str, Any]:
        return self._object([self._choice(written.text, written.finish.reason)]) | {"usage": written.usage}

    def head(self) -> Iterator[dict[str, Any]]:
        return iter(())

    def piece(self, piece: Piece) -> dict[str, Any]:
        return self._chunk(piece.text)

    def tail(self, written: Written) -> Iterator[dict[str, Any]]:
        yield self._chunk("", written.finish.reason)
        if self.usage:
            yield self._object([]) | {"usage": written.usage}

    def _chunk(self, text: str, finish: str | None = None) -> dict[str, Any]:
        return self._object([self._choice(text, finish)]) | ({"usage": None} if self.usage else {})

    def _choice(self, text: str, finish: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}

    def _object(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"cmpl-{self.id}",
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


Shape = ChatShape | CompletionShape


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"arguments": call.arguments} | ({"name": call.name} if call.name else {})
    first = {"id": call.id, "type": "function"} if call.id else {}
    return {"index": call.index, **first, "function": function}
