"""Embeddings and reranking by transformers, with models of base's size, against the library."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.engines.basics import basics
from tests.bench.engines.making import made
from tests.bench.engines.pair import Pair, Subject, idle, in_turns, post, speed, start, taken, up
from tests.bench.engines.texts import LONG, QUERY, SHORT
from tests.bench.figure import Figure, Result

_PROGRAM: Final = "roundhouse_transformers"

EMBEDDINGS: Final = basics("embeddings", "eight texts of 64 words", "texts/s", start=1.5)
AT_ONCE: Final = Figure(
    "engines",
    "embeddings, eight short texts at once",
    "texts/s",
    "higher",
    "the library's batch",
    aim=1,
)
TOGETHER: Final = Figure(
    "engines",
    "embeddings, eight short texts at once, batched",
    "texts/s",
    "higher",
    "one by one",
    aim=2,
)
RERANK: Final = basics("rerank", "a query and eight documents", "texts/s", start=1.5)
FIGURES: Final = (*EMBEDDINGS.all, AT_ONCE, TOGETHER, *RERANK.all)


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
        with ThreadPoolExecutor(len(SHORT)) as clients:
            yield from _short(pair, clients)
        yield idle(EMBEDDINGS.idle, pair.engine)
    model = made("rerank", folder / "rerank")
    with up(Subject((_PROGRAM, "rerank"), "transformers", ("rerank", model), model), folder) as pair:
        yield start(RERANK.start, pair)
        yield speed(
            RERANK.speed,
            len(LONG),
            lambda: taken(lambda: post(pair.engine, "/v1/rerank", query=QUERY, documents=LONG)),
            pair.library.seconds,
        )
        yield idle(RERANK.idle, pair.engine)


def _short(pair: Pair, clients: Executor) -> Iterator[Result]:
    def embed(text: str) -> None:
        post(pair.engine, "/v1/embeddings", input=text)

    at_once, batch, one_by_one = in_turns(
        lambda: taken(lambda: list(clients.map(embed, SHORT))),
        partial(pair.library.seconds, "batch"),
        lambda: taken(lambda: list(map(embed, SHORT))),
    )
    yield Result(AT_ONCE, len(SHORT) / at_once, len(SHORT) / batch)
    yield Result(TOGETHER, len(SHORT) / at_once, len(SHORT) / one_by_one)
