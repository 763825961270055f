"""What the engines reach over HTTP, against their libraries called directly."""

import tempfile
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.figure import Figure, Result
from tests.bench.machine import cpu_seconds
from tests.bench.pocketsphinx import library
from tests.conformance.engine.running import POCKETSPHINX, Engine, running
from tests.support.recordings import TEST_DATA, wav
from tests.support.waiting import wait_until

SPEECH_SECONDS: Final = 10
ROUNDS: Final = 5
STARTS: Final = 3
IDLE_SECONDS: Final = 10
_RATE: Final = 16_000
_BOOK: Final = "librivox/sense_and_sensibility_01_austen_64kb-{}.wav"
_DIRECT: Final = "the library directly"

SPEED: Final = Figure(
    "engines", "pocketsphinx, 10 s of speech over HTTP", "x real", "higher", against=_DIRECT, aim=0.95
)
START: Final = Figure("engines", "pocketsphinx, start to ready", "s", "lower", against=_DIRECT)
IDLE: Final = Figure("engines", "pocketsphinx, idle", "% of core", "lower", aim=1)
FIGURES: Final = (SPEED, START, IDLE)


def measure() -> Iterator[Result]:
    samples = _speech()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "speech.raw"
        path.write_bytes(samples)
        yield _speed(folder, path, wav(samples))
        yield _start(folder, path)
        with _ready(folder) as (engine, _):
            yield _idle(engine)


def _speed(folder: Path, path: Path, audio: bytes) -> Result:
    """Each hears the recording once before it counts."""
    over_http, direct = [], []
    with _ready(folder) as (engine, _), library(path) as alone:
        for number in range(ROUNDS + 1):
            seconds = _transcribe(engine, audio)
            directly, words = alone.transcribe()
            assert words, "the library heard nothing"
            if number:
                over_http.append(SPEECH_SECONDS / seconds)
                direct.append(SPEECH_SECONDS / directly)
    return Result(SPEED, median(over_http), median(direct))


def _transcribe(engine: Engine, audio: bytes) -> float:
    began = time.monotonic()
    answer = engine.post(audio, model="english")
    seconds = time.monotonic() - began
    assert answer.status == 200, answer.body
    assert answer.json["text"], "the engine heard nothing"
    return seconds


def _start(folder: Path, path: Path) -> Result:
    ours, direct = [], []
    for _ in range(STARTS):
        with _ready(folder) as (_, seconds):
            ours.append(seconds)
        with library(path) as alone:
            direct.append(alone.ready_seconds)
    return Result(START, median(ours), median(direct))


def _idle(engine: Engine) -> Result:
    before, began = cpu_seconds(engine.process.pid), time.monotonic()
    time.sleep(IDLE_SECONDS)
    used = cpu_seconds(engine.process.pid) - before
    return Result(IDLE, 100 * used / (time.monotonic() - began))


@contextmanager
def _ready(folder: Path) -> Iterator[tuple[Engine, float]]:
    """PocketSphinx with one slot, and the seconds from its start until it was ready."""
    began = time.monotonic()
    with running(POCKETSPHINX, folder, MODELS="english", ROUNDHOUSE_CAPACITY="1") as engine:
        wait_until(lambda: engine.ready, seconds=60, what="the engine is ready", every=0.01)
        yield engine, time.monotonic() - began


def _speech() -> bytes:
    """A volunteer reading a book, two sentences cut to length: nearly no pauses that could be left out."""
    samples = b""
    for number in ("0870", "0930"):
        with wave.open(str(TEST_DATA / _BOOK.format(number))) as recording:
            assert recording.getparams()[:3] == (1, 2, _RATE), recording.getparams()
            samples += recording.readframes(recording.getnframes())
    wanted = SPEECH_SECONDS * _RATE * 2
    assert len(samples) >= wanted, "the recordings are shorter than they were"
    return samples[:wanted]
