"""Engines that tests share where they leave them as they were."""

import json
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.conformance.engine.holding import SPOOL
from tests.conformance.engine.running import FASTER_WHISPER, POCKETSPHINX, SCRIPTED, Engine, running
from tests.support.torch_base import prepare_torch
from tests.support.whisper import UNSURE, Whisper, make_whisper


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The scripted engine in one child process, ready."""
    with running(SCRIPTED, tmp_path_factory.mktemp("scripted")) as engine:
        engine.until_ready()
        yield engine


@pytest.fixture(scope="session")
def pocketsphinx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """PocketSphinx with one slot, ready."""
    folder = tmp_path_factory.mktemp("pocketsphinx")
    (folder / SPOOL).mkdir()
    told = {"MODELS": "english", "ROUNDHOUSE_CAPACITY": "1", "TMPDIR": str(folder / SPOOL)}
    with running(POCKETSPHINX, folder, **told) as engine:
        engine.until_ready()
        yield engine


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """faster-whisper: `m`, `german`, `english`, which knows no other language, and `unsure` of a word."""
    folder = tmp_path_factory.mktemp("faster-whisper")
    made = {
        "m": Whisper(),
        "german": Whisper(says=("guten", "tag"), language="de", mels=128),
        "english": Whisper(multilingual=False),
        "unsure": UNSURE,
    }
    models = [
        {"name": name, "path": str(make_whisper(folder / name, each)), "source": {"type": "HuggingFace"}}
        for name, each in made.items()
    ]
    # Two threads that wait for each other on cores that are busy with other things take ten times as long.
    told = {"ROUNDHOUSE_MODELS": json.dumps(models), "ROUNDHOUSE_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    (folder / SPOOL).mkdir()
    told["TMPDIR"] = str(folder / SPOOL)  # also of what a library writes
    with running(FASTER_WHISPER, folder, **told) as engine:
        engine.until_ready(sessions=1)
        yield engine


@pytest.fixture(scope="session")
def making() -> ModuleType:
    """What writes repositories of Whisper's kind. torch loads with it, in the tests' own process."""
    prepare_torch()
    from tests.support import whisper_repository  # noqa: PLC0415 - torch loads only from here on

    return whisper_repository
