"""What writes, by transformers and by llama.cpp, with models of base's size, against the libraries.

llama.cpp's model makes vectors, too: its words are several tokens each.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.engines.basics import Basics, basics, eight_at_once, stops
from tests.bench.engines.making import CONTEXT_TOKENS, made
from tests.bench.engines.pair import (
    Pair,
    Subject,
    at_once,
    idle,
    in_turns,
    left,
    post,
    speed,
    start,
    stop,
    taken,
    up,
)
from tests.bench.engines.texts import CHATS, MANY, MESSAGES, SHORT, WRITTEN_TOKENS
from tests.bench.figure import Figure, Result
from tests.conformance.engine.running import Engine

_PATH: Final = "/v1/chat/completions"
_WRITES: Final = f"{WRITTEN_TOKENS} tokens of chat"


def _later(engine: str) -> Figure:
    return Figure("engines", f"{engine}, first token, later than the library", "ms", "lower", budget=50)


CHAT: Final = basics("transformers", _WRITES, "tokens/s", start=1.5)
CHAT_LATER: Final = _later("transformers")
CHAT_STOP: Final = stops("transformers")
LLAMA: Final = basics("llama-cpp", _WRITES, "tokens/s", start=4)
LLAMA_LATER: Final = _later("llama-cpp")
LLAMA_AT_ONCE: Final = eight_at_once("llama-cpp", "chats", "chats/s")
LLAMA_STOP: Final = stops("llama-cpp")
VECTORS: Final = basics("llama-cpp embeddings", "eight short texts", "texts/s", start=4)
VECTORS_AT_ONCE: Final = eight_at_once("llama-cpp embeddings", "short texts", "texts/s")
VECTORS_STOP: Final = stops("llama-cpp embeddings")
FIGURES: Final = (
    *(*CHAT.all, CHAT_LATER, CHAT_STOP),
    *(*LLAMA.all, LLAMA_LATER, LLAMA_AT_ONCE, LLAMA_STOP),
    *(*VECTORS.all, VECTORS_AT_ONCE, VECTORS_STOP),
)


def measure(folder: Path) -> Iterator[Result]:
    model = made("chat", folder / "chat")
    subject = Subject(("roundhouse_transformers", "chat"), "transformers", ("chat", model), model)
    yield from _measured(subject, folder, CHAT, CHAT_LATER, CHAT_STOP)
    weights = made("llama", folder / "llama") / "model.gguf"
    context = {"ROUNDHOUSE_LLAMA_CONTEXT_TOKENS": str(CONTEXT_TOKENS)}
    places = context | {"ROUNDHOUSE_CAPACITY": str(CHATS)}
    program = "roundhouse_llama_cpp"
    subject = Subject((program, "chat"), "llama_cpp", ("chat", weights), weights.parent, places)
    yield from _measured(subject, folder, LLAMA, LLAMA_LATER, LLAMA_STOP, together=LLAMA_AT_ONCE)
    told = ("embeddings", weights)
    pooled = context | {"ROUNDHOUSE_LLAMA_POOLING": "mean"}  # as the library is told
    yield from _vectors(Subject((program, "embeddings"), "llama_cpp", told, weights.parent, pooled), folder)


def _vectors(subject: Subject, folder: Path) -> Iterator[Result]:
    with up(subject, folder) as pair:

        def embed(texts: str | list[str]) -> None:
            post(pair.engine, "/v1/embeddings", input=texts)

        yield start(VECTORS.start, pair)
        yield speed(VECTORS.speed, len(SHORT), lambda: taken(lambda: embed(SHORT)), pair.library.seconds)
        yield at_once(VECTORS_AT_ONCE, pair, [partial(embed, text) for text in SHORT])
        yield idle(VECTORS.idle, pair.engine)
        (step_seconds,) = in_turns(pair.library.seconds)
        yield stop(
            VECTORS_STOP, pair.engine, lambda: left(pair.engine, "/v1/embeddings", input=MANY), step_seconds
        )


def _measured(
    subject: Subject,
    folder: Path,
    basic: Basics,
    later: Figure,
    ends: Figure,
    *,
    together: Figure | None = None,
) -> Iterator[Result]:
    with up(subject, folder) as pair:
        yield start(basic.start, pair)
        yield speed(basic.speed, WRITTEN_TOKENS, lambda: taken(lambda: _write(pair)), pair.library.seconds)
        ours, theirs, whole = in_turns(
            lambda: _first_seconds(pair.engine), lambda: pair.library.work("first")[1], pair.library.seconds
        )
        yield Result(later, 1000 * (ours - theirs))
        if together is not None:
            yield at_once(together, pair, [partial(_write, pair)] * CHATS)
        yield idle(basic.idle, pair.engine)
        step_seconds = whole / WRITTEN_TOKENS
        yield stop(ends, pair.engine, lambda: left(pair.engine, _PATH, **_asked(900)), step_seconds)


def _asked(tokens: int) -> dict[str, object]:
    return {"messages": MESSAGES, "max_tokens": tokens, "temperature": 0}


def _write(pair: Pair) -> None:
    answer = post(pair.engine, _PATH, **_asked(WRITTEN_TOKENS))
    assert answer["usage"]["completion_tokens"] == WRITTEN_TOKENS, answer


def _first_seconds(engine: Engine) -> float:
    """Until the first event with text in it has come."""
    body = json.dumps({"model": "m", "stream": True, **_asked(WRITTEN_TOKENS)})
    began = time.monotonic()
    with contextlib.closing(engine.connect()) as connection:
        connection.request("POST", _PATH, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        while line := answer.readline():
            event = line.removeprefix(b"data: ").strip()
            if event.startswith(b"{") and json.loads(event)["choices"][0]["delta"].get("content"):
                seconds = time.monotonic() - began
                answer.read()
                return seconds
    raise AssertionError("nothing was written")
