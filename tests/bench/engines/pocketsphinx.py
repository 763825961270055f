"""PocketSphinx over HTTP, with one slot, against its decoder with the same settings on the same samples."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.engines.basics import basics, stops
from tests.bench.engines.pair import Pair, Subject, idle, in_turns, left_recording, speed, start, taken, up
from tests.bench.engines.speech import speech
from tests.bench.figure import Result
from tests.conformance.engine.running import Engine
from tests.support.recordings import wav
from tests.support.waiting import wait_until

_SECONDS: Final = 10.0
_STARTS: Final = 3
_LEAVES: Final = 4
_REST_SECONDS: Final = 1.5
_NEXT_TO_NOTHING_SECONDS: Final = 0.003

BASICS: Final = basics("pocketsphinx", "10 s of speech", "x real", start=4)
STOP: Final = stops("pocketsphinx")
FIGURES: Final = (*BASICS.all, STOP)


def measure(folder: Path) -> Iterator[Result]:
    path = folder / "speech.raw"
    path.write_bytes(speech(_SECONDS))
    variables = {"MODELS": "english", "ROUNDHOUSE_CAPACITY": "1"}
    subject = Subject(("roundhouse_pocketsphinx",), "pocketsphinx", (path,), variables=variables)
    with up(subject, folder, starts=_STARTS) as pair:
        yield start(BASICS.start, pair)
        yield speed(
            BASICS.speed,
            _SECONDS,
            lambda: taken(lambda: _heard(pair, wav(path.read_bytes()))),
            pair.library.seconds,
        )
        yield idle(BASICS.idle, pair.engine)
        yield _stop(pair)


def _heard(pair: Pair, audio: bytes) -> None:
    answer = pair.engine.post(audio, model="english")
    assert answer.status == 200, answer.body
    assert answer.json["text"], "the engine heard nothing"


def _stop(pair: Pair) -> Result:
    """At the worst of a few moments: a process computes, and goes on to the end of its utterance."""
    (step_seconds,) = in_turns(lambda: pair.library.seconds("step"), rounds=_LEAVES)
    longest = 0.0
    for number in range(_LEAVES):
        wait_until(lambda: _serves(pair.engine), seconds=60, what="it has a process again", every=0.1)
        (process,) = pair.engine.children
        with left_recording(pair.engine, model="english"):
            wait_until(lambda: pair.engine.metric("slots_computing") > 0, seconds=60, what="it computes")
            time.sleep(step_seconds * (0.1 + number / _LEAVES))
        longest = max(longest, _computes_on_seconds(process, step_seconds + _REST_SECONDS))
    return Result(STOP, 1000 * longest, 1000 * step_seconds)


def _serves(engine: Engine) -> bool:
    return engine.post(wav(speech(0.5)), model="english").status == 200


def _computes_on_seconds(process: int, watched_seconds: float) -> float:
    """From now until it is gone, or takes no more of the processor."""
    began, last = time.monotonic(), 0.0
    try:
        before = _processor_seconds(process)
        while (now := time.monotonic() - began) < watched_seconds:
            used = _processor_seconds(process)
            if used > before + _NEXT_TO_NOTHING_SECONDS:
                before, last = used, now
            time.sleep(0.001)
    except OSError:
        return time.monotonic() - began
    return last


def _processor_seconds(process: int) -> float:
    return time.clock_gettime((~process << 3) | 2)  # as clock_getcpuclockid makes it
