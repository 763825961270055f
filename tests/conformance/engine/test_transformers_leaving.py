"""What embeddings and ranks that were refused or left in the middle leave behind: nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.engine.holding import assert_nothing_stays, leave
from tests.conformance.engine.running import Engine
from tests.conformance.engine.test_transformers import post, serving
from tests.support.torch_base import prepare_torch

LONG = " ".join(["one"] * 100)
WORK: dict[str, tuple[str, dict[str, Any], list[dict[str, Any]]]] = {
    "embeddings": (
        "/v1/embeddings",
        {"input": [LONG] * 4000},
        [{"input": [LONG, "one " * 2000]}, {"input": [""]}, {"input": [[1, 2]]}],
    ),
    "rerank": (
        "/v1/rerank",
        {"query": "one", "documents": [LONG] * 4000},
        [{"query": LONG * 40, "documents": ["one"]}, {"query": "one", "documents": [""]}],
    ),
}


@pytest.fixture(scope="module", params=list(WORK))
def kind_and_engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Engine]]:
    prepare_torch()
    from tests.support import tiny_models  # noqa: PLC0415 - torch loads only from here on

    folder: Path = tmp_path_factory.mktemp("leaving")
    ranks = request.param == "rerank"
    write = tiny_models.write_ranker if ranks else tiny_models.write_embedder
    with serving(request.param, folder, m=write(folder / "m")) as engine:
        yield request.param, engine


def test_what_is_refused_or_left_in_the_middle_leaves_nothing_behind(
    kind_and_engine: tuple[str, Engine],
) -> None:
    kind, engine = kind_and_engine
    path, long, wrong = WORK[kind]

    def ask() -> None:
        assert [post(engine, path, model="m", **fields).status for fields in wrong] == [400] * len(wrong)
        leave(engine, path, model="m", **long)
        few = {name: value[:2] if isinstance(value, list) else value for name, value in long.items()}
        assert post(engine, path, model="m", **few).status == 200

    assert_nothing_stays(engine, ask, mebibytes=48)
