"""Writes: a conversation by the model's own template, or a text that goes on, token by token.

The library's `generate` knows every kind of model and its cache. It runs in a thread of its own, tells each
token, and asks after each whether it should go on; so it ends within one when the client leaves.
"""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from tokenizers.decoders import DecodeStream
from transformers import AutoModelForCausalLM, LogitsProcessorList, StoppingCriteriaList

from roundhouse_engine import Cancellation, Finish, FinishReason, Piece, Prompted, TextOptions
from roundhouse_engine.errors import EngineError, failed, invalid
from roundhouse_engine.text import Text
from roundhouse_engine.torch_memory import vram_bytes
from roundhouse_transformers.grammar import Grammars, Held, json_grammar
from roundhouse_transformers.loading import load
from roundhouse_transformers.repository import Repository
from roundhouse_transformers.sampling import Draw, chances
from roundhouse_transformers.settings import Settings
from roundhouse_transformers.template import Template

_CONTEXT_TOKENS: Final = 8192
"""Of one request, where nothing says less: a cache of all that a large model can take fills the memory."""

Written = Iterator[Prompted | Piece | Finish]


class Writer:
    """Several threads may write at once."""

    def __init__(self, repository: Repository, settings: Settings) -> None:
        self._name = repository.name
        self._loaded = load(repository, settings, AutoModelForCausalLM)
        limit = self._loaded.limit_tokens or _CONTEXT_TOKENS
        self._limit = limit if settings.context_tokens else min(limit, _CONTEXT_TOKENS)
        self._habits = self._loaded.model.generation_config.to_dict()
        ends = self._habits.get("eos_token_id", self._loaded.tokenizer.eos_token_id)
        self._ends = frozenset(ends if isinstance(ends, list) else [ends]) - {None}
        self._words = int(self._loaded.model.config.get_text_config().vocab_size)
        self._grammars = Grammars(self._loaded.tokenizer, self._words, self._ends)
        self._template = Template(self._loaded.tokenizer)
        self._tokenizing = threading.Lock()

    def vram_bytes(self) -> int | None:
        return vram_bytes(self._loaded.model, self._loaded.device)

    def chat(
        self, messages: Sequence[Mapping[str, Any]], options: TextOptions, cancellation: Cancellation
    ) -> Written:
        text = self._filled(messages, options.extensions.get("chat_template_kwargs"), cancellation)
        return self._write(self._tokens(text, special=False), "messages", options, cancellation)

    def complete(self, prompt: Text, options: TextOptions, cancellation: Cancellation) -> Written:
        tokens = self._tokens(prompt, special=True) if isinstance(prompt, str) else list(prompt)
        if not tokens or max(tokens) >= self._words:
            raise invalid(f"prompt must be ids of tokens below {self._words}, at least one.", param="prompt")
        return self._write(tokens, "prompt", options, cancellation)

    def _tokens(self, text: str, *, special: bool) -> list[int]:
        """The tokenizer keeps a state of its own while it reads; templates need none of it."""
        with self._tokenizing:
            return list(self._loaded.tokenizer(text, add_special_tokens=special)["input_ids"])

    def _filled(self, messages: Sequence[Mapping[str, Any]], told: object, cancellation: Cancellation) -> str:
        if not self._loaded.tokenizer.chat_template:
            raise invalid(
                f"The model {self._name!r} has no template for conversations: use /v1/completions.",
                param="model",
                code="unsupported_value",
            )
        return self._template.fill(messages, told, cancellation)

    def _write(
        self, tokens: list[int], param: str, options: TextOptions, cancellation: Cancellation
    ) -> Written:
        room = self._limit - len(tokens)
        if room < 1:
            raise invalid(
                f"The prompt is {len(tokens)} tokens long, and the model takes {self._limit} with its "
                "answer. Send less, or give the engine a longer context.",
                param=param,
                code="context_length_exceeded",
            )
        most = min(options.max_tokens or room, room)
        chosen = chances(options, self._habits)
        held = self._held(options.schema, cancellation)
        draw = Draw(chosen, len(tokens), self._loaded.device, held)
        return self._told(tokens, most, draw, held, cancellation)

    def _held(self, schema: Mapping[str, Any] | None, cancellation: Cancellation) -> Held | None:
        if schema is None:
            return None
        grammar = json_grammar(schema, "response_format")
        return self._grammars.hold(grammar, "response_format", cancellation)

    def _told(
        self, tokens: list[int], most: int, draw: Draw, held: Held | None, cancellation: Cancellation
    ) -> Written:
        yield Prompted(len(tokens))
        stream = DecodeStream(skip_special_tokens=True)
        backend = self._loaded.tokenizer.backend_tokenizer
        count, reason = 0, FinishReason.LENGTH
        telling = Telling(cancellation)
        try:
            telling.begin(self._generate, tokens, most, draw, held)
            while (token := telling.next()) is not None:
                count += 1
                if token in self._ends:
                    reason = FinishReason.STOP
                    break
                # Of a character's bytes all but the last say nothing yet; they still count.
                yield Piece(stream.step(backend, token) or "")
            else:
                if held is not None and held.over:
                    reason = FinishReason.STOP
        finally:
            telling.leave()  # the slot is free when it says so, and not before
        yield Finish(reason, count)

    def _generate(
        self, tokens: list[int], most: int, draw: Draw, held: Held | None, telling: "Telling"
    ) -> None:
        ends = [telling.should_end] if held is None else [held.should_end, telling.should_end]
        ids = torch.tensor([tokens], device=self._loaded.device)
        with torch.inference_mode():
            self._loaded.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=most,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                logits_processor=LogitsProcessorList([draw]),
                stopping_criteria=StoppingCriteriaList(ends),
                streamer=telling,
            )


class Telling:
    """Between the thread that generates and the one that tells. The first tokens that come are the prompt."""

    def __init__(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        self._said: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        self._left = threading.Event()
        self._prompted = False
        self._thread: threading.Thread | None = None

    def begin(self, generate: Any, *arguments: Any) -> None:  # noqa: ANN401 - called as it is given
        def run() -> None:
            try:
                generate(*arguments, self)
            except BaseException as error:  # noqa: BLE001 - raised again by `next`; a panic is no Exception
                self._said.put(error)
            self._said.put(None)

        self._thread = threading.Thread(target=run, daemon=True, name="generate")
        self._thread.start()

    def put(self, tokens: Any) -> None:  # noqa: ANN401 - a tensor, of the library's streamers
        if self._prompted:
            self._said.put(int(tokens.reshape(-1)[-1]))
        self._prompted = True

    def should_end(self, tokens: Any, scores: Any, **_: Any) -> Any:  # noqa: ANN401, ARG002 - the library's
        over = self._left.is_set() or self._cancellation.cancelled
        return torch.full((tokens.shape[0],), over, dtype=torch.bool, device=tokens.device)

    def next(self) -> int | None:
        """The next token; None after the last. Raises `EngineError`, or what the library did."""
        said = self._said.get()
        if isinstance(said, BaseException):
            raise _problem(said) from said
        return said

    def end(self) -> None:
        """What the library tells its streamers after the last token; the thread's end says it here."""

    def leave(self) -> None:
        """Returns when nothing computes any more."""
        self._left.set()
        if self._thread is not None:
            self._thread.join()


def _problem(error: BaseException) -> Exception:
    if isinstance(error, EngineError):
        return error
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return failed(
            "Memory does not suffice for this request beside the others. Send less, or give the engine more.",
            code="out_of_memory",
        )
    return error if isinstance(error, Exception) else failed(f"What computes has failed: {error}")
