"""Embeddings and reranking by transformers, with models of base's size, against the library."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.engines.basics import basics, eight_at_once, stops
from tests.bench.engines.making import made
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
from tests.bench.engines.texts import LONG, MANY, PARAGRAPHS, QUERY, SHORT
from tests.bench.figure import Figure, Result

_PROGRAM: Final = "roundhouse_transformers"

EMBEDDINGS: Final = basics("embeddings", "eight texts of 64 words", "texts/s", start=1.5)
AT_ONCE: Final = eight_at_once("embeddings", "texts of 32 words", "texts/s")
TOGETHER: Final = Figure(
    "engines",
    "embeddings, eight short texts at once, batched",
    "texts/s",
    "higher",
    "one by one",
    budget=2,
    noise=0.1,
)
EMBEDDINGS_STOP: Final = stops("embeddings")
RERANK: Final = basics("rerank", "a query and eight documents", "texts/s", start=1.5)
RERANK_AT_ONCE: Final = eight_at_once("rerank", "documents of 32 words", "texts/s")
RERANK_STOP: Final = stops("rerank")
FIGURES: Final = (
    *EMBEDDINGS.all,
    AT_ONCE,
    TOGETHER,
    EMBEDDINGS_STOP,
    *RERANK.all,
    RERANK_AT_ONCE,
    RERANK_STOP,
)


def measure(folder: Path) -> Iterator[Result]:
    model = made("embeddings", folder / "embeddings")
    with up(Subject((_PROGRAM, "embeddings"), "transformers", ("embeddings", model), model), folder) as pair:
        yield start(EMBEDDINGS.start, pair)
        yield speed(
            EMBEDDINGS.speed,
            len(LONG),
            lambda: taken(lambda: post(pair.engine, "/v1/embeddings", input=LONG)),
            pair.library.seconds,
        )
        yield at_once(AT_ONCE, pair, [partial(_embed, pair, text) for text in PARAGRAPHS])
        yield _short(pair)
        yield idle(EMBEDDINGS.idle, pair.engine)
        yield _stop(EMBEDDINGS_STOP, pair, "/v1/embeddings", input=MANY)
    model = made("rerank", folder / "rerank")
    with up(Subject((_PROGRAM, "rerank"), "transformers", ("rerank", model), model), folder) as pair:
        yield start(RERANK.start, pair)
        yield speed(
            RERANK.speed,
            len(LONG),
            lambda: taken(lambda: post(pair.engine, "/v1/rerank", query=QUERY, documents=LONG)),
            pair.library.seconds,
        )
        yield at_once(RERANK_AT_ONCE, pair, [partial(_rank, pair, text) for text in PARAGRAPHS])
        yield idle(RERANK.idle, pair.engine)
        yield _stop(RERANK_STOP, pair, "/v1/rerank", query=QUERY, documents=MANY)


def _embed(pair: Pair, text: str) -> None:
    post(pair.engine, "/v1/embeddings", input=text)


def _rank(pair: Pair, document: str) -> None:
    post(pair.engine, "/v1/rerank", query=QUERY, documents=[document])


def _stop(figure: Figure, pair: Pair, path: str, **told: object) -> Result:
    (step_seconds,) = in_turns(lambda: pair.library.seconds("step"))
    return stop(figure, pair.engine, lambda: left(pair.engine, path, **told), step_seconds)


def _short(pair: Pair) -> Result:
    embed = partial(_embed, pair)
    with ThreadPoolExecutor(len(SHORT)) as clients:
        together, one_by_one = in_turns(
            lambda: taken(lambda: list(clients.map(embed, SHORT))),
            lambda: taken(lambda: list(map(embed, SHORT))),
        )
    return Result(TOGETHER, len(SHORT) / together, len(SHORT) / one_by_one)
