"""Engines that tests share where they leave them as they were."""

from collections.abc import Iterator

import pytest

from tests.conformance.engine.running import POCKETSPHINX, SCRIPTED, Engine, running


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The scripted engine in one child process, ready."""
    with running(SCRIPTED, tmp_path_factory.mktemp("scripted")) as engine:
        engine.until_ready()
        yield engine


@pytest.fixture(scope="session")
def pocketsphinx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """PocketSphinx with one slot, ready."""
    with running(
        POCKETSPHINX, tmp_path_factory.mktemp("pocketsphinx"), MODELS="english", ROUNDHOUSE_CAPACITY="1"
    ) as engine:
        engine.until_ready()
        yield engine
