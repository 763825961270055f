"""Small real engines of texts for the tests of the server: what they do is chosen by the texts themselves.

`python -m tests.conformance.engine.text_handlers CLASS` runs one.
"""

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import numpy as np
from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    Chat,
    Conversation,
    Embedding,
    Finish,
    FinishReason,
    Isolation,
    ModelSpec,
    Piece,
    Prompted,
    Rerank,
    TextOptions,
    ToolCall,
    serve,
)
from roundhouse_engine.errors import invalid
from roundhouse_engine.text import Text

LIMIT = 500
WIDTH = 8


class Writer(Chat):
    """Says the last message again, word by word, unless it is an order."""

    isolation = Isolation.PROCESS
    cancel_seconds = 30.0
    completions = True

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        self._name = model.name
        progress(1.0)

    @override
    def chat(
        self, conversation: Conversation, options: TextOptions, cancellation: Cancellation
    ) -> Iterator[Prompted | Piece | Finish]:
        text = str(conversation.messages[-1]["content"])
        if conversation.tools:
            name = conversation.tools[0]["function"]["name"]
            yield Prompted(2)
            yield Piece(tool_calls=(ToolCall(0, "", "call_1", name),))
            yield Piece(tool_calls=(ToolCall(0, '{"a":'),))
            yield Piece(tool_calls=(ToolCall(0, " 1}"),))
            yield Finish(FinishReason.TOOL_CALLS)
            return
        yield from self._write(text, options)

    @override
    def complete(
        self, prompt: Text, options: TextOptions, cancellation: Cancellation
    ) -> Iterator[Prompted | Piece | Finish]:
        return self._write(prompt if isinstance(prompt, str) else " ".join(map(str, prompt)), options)

    def _write(self, text: str, options: TextOptions) -> Iterator[Prompted | Piece | Finish]:
        words = text.split(" ")
        if len(words) > LIMIT:
            raise invalid(
                f"The prompt is {len(words)} tokens long, and the model takes {LIMIT}.",
                param="messages",
                code="context_length_exceeded",
            )
        yield Prompted(len(words), cached=1)
        match words[0]:
            case "raise":
                raise RuntimeError(text)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "silence":
                yield Finish(FinishReason.STOP)
            case "on":  # for as long as somebody listens
                for number in range(1_000_000):
                    yield Piece(f" {number}")
                    time.sleep(0.002)
            case "odd":  # as a library gives it
                yield Piece("so far")
                yield Piece(tool_calls=(ToolCall(np.int64(0), "", "call_1", "look"),))  # type: ignore[arg-type]
            case "break":  # in the middle
                yield Piece("so far")
                raise invalid(f"The model {self._name!r} lost its thread.", code="thread_lost")
            case _:
                limit = options.max_tokens or len(words)
                for number, word in enumerate(words[:limit]):
                    yield Piece(word if number == 0 else f" {word}")
                yield Finish(FinishReason.LENGTH if limit < len(words) else FinishReason.STOP)


class WriterThreaded(Writer):
    isolation = Isolation.THREAD
    thread_safe = True
    capacity = 2


class Caller(Writer):
    tools = True
    penalties = True
    response_formats: ClassVar[frozenset[str]] = frozenset({"json_object", "json_schema"})


class Vectors(Embedding, Rerank):
    """A vector of numbers made from the text."""

    isolation = Isolation.PROCESS
    cancel_seconds = 30.0
    shortened = True
    token_ids = True
    batch_items = 32
    batch_tokens = 1000

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        self._bears = int(os.environ.get("TEST_BEARS", "1000000"))

    @override
    def count_tokens(self, text: str) -> int:
        return len(text.split())

    @override
    def limit_tokens(self) -> int | None:
        return LIMIT

    @override
    def embed(self, texts: Sequence[Text], cancellation: Cancellation) -> list[np.ndarray]:
        assert len(texts) <= 32
        if len(texts) > self._bears:
            raise MemoryError
        for text in texts:
            self._obey(str(text), cancellation)
        return [vector(text) for text in texts]

    @override
    def score(self, pairs: Sequence[tuple[str, str]], cancellation: Cancellation) -> list[float]:
        return [_overlap(query, document) for query, document in pairs]

    def _obey(self, text: str, cancellation: Cancellation) -> None:
        match text.partition(" ")[0]:
            case "wait":
                while True:
                    cancellation.check()
                    time.sleep(0.005)
            case "raise":
                raise RuntimeError(text)
            case "spoil":
                raise invalid("The text cannot be said.", code="unspeakable")
            case "huge":
                raise MemoryError
            case _:
                pass


class VectorsThreaded(Vectors):
    isolation = Isolation.THREAD


def vector(text: Text) -> np.ndarray:
    digest = hashlib.sha256(str(text).encode()).digest()
    numbers = np.frombuffer(digest, np.uint8)[:WIDTH].astype(np.float64) + 1
    return numbers / np.linalg.norm(numbers)


def _overlap(query: str, document: str) -> float:
    wanted = set(query.lower().split())
    return len(wanted & set(document.lower().split())) / len(wanted)


if __name__ == "__main__":
    kinds = (Writer, WriterThreaded, Caller, Vectors, VectorsThreaded)
    serve({kind.__name__: kind for kind in kinds}[sys.argv[1]])
