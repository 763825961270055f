"""NeMo over HTTP, with a CTC model as large as parakeet's of 110 million weights, against the library."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.engines.basics import basics, eight_at_once, stops
from tests.bench.engines.making import made
from tests.bench.engines.pair import (
    Subject,
    at_once,
    idle,
    in_turns,
    left_recording,
    speed,
    start,
    stop,
    taken,
    up,
)
from tests.bench.engines.speech import CLIPS, clips, speech
from tests.bench.figure import Result
from tests.conformance.engine.running import Engine
from tests.support.recordings import wav

_SECONDS: Final = 20.0

BASICS: Final = basics("nemo", "20 s of speech", "x real", start=1.5)
STOP: Final = stops("nemo")
AT_ONCE: Final = eight_at_once("nemo", "clips", "clips/s")
FIGURES: Final = (*BASICS.all, AT_ONCE, STOP)


def measure(folder: Path) -> Iterator[Result]:
    model, path = made("nemo", folder / "nemo"), folder / "speech.raw"
    path.write_bytes(speech(_SECONDS))
    capacity = {"ROUNDHOUSE_CAPACITY": str(CLIPS)}
    with up(Subject(("roundhouse_nemo",), "nemo", (model, path), model, capacity), folder) as pair:
        yield start(BASICS.start, pair)
        audio = wav(path.read_bytes())
        yield speed(
            BASICS.speed, _SECONDS, lambda: taken(lambda: _heard(pair.engine, audio)), pair.library.seconds
        )
        yield at_once(AT_ONCE, pair, [partial(_heard, pair.engine, wav(clip)) for clip in clips()])
        yield idle(BASICS.idle, pair.engine)
        (step_seconds,) = in_turns(lambda: pair.library.seconds("step"))
        yield stop(STOP, pair.engine, lambda: left_recording(pair.engine), step_seconds)


def _heard(engine: Engine, audio: bytes) -> None:
    answer = engine.post(audio)
    assert answer.status == 200, answer.body
