"""Whisper by transformers over HTTP, with a model of base's size, against the library.

The model has random weights but for the dozen words that it says of any sound.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.bench.engines.basics import basics, eight_at_once, stops
from tests.bench.engines.making import SPOKEN_WORDS, made
from tests.bench.engines.pair import (
    Pair,
    Subject,
    idle,
    in_turns,
    left_recording,
    speed,
    start,
    stop,
    taken,
    up,
)
from tests.bench.engines.speech import CLIP_SECONDS, CLIPS, clips, speech
from tests.bench.figure import Result
from tests.conformance.engine.running import Engine
from tests.support.recordings import wav

_NAME: Final = "Whisper by transformers"
_SECONDS: Final = CLIPS * CLIP_SECONDS
_STARTS: Final = 3
"""Its library imports for seconds, in which a guest's processors are easily taken away for as long."""

BASICS: Final = basics(_NAME, "20 s of speech", "x real", start=1.5)
AT_ONCE: Final = eight_at_once(_NAME, "clips", "clips/s")
STOP: Final = stops(_NAME)
FIGURES: Final = (*BASICS.all, AT_ONCE, STOP)


def measure(folder: Path) -> Iterator[Result]:
    model, path = made("whisper-transformers", folder / "whisper"), folder / "speech.raw"
    path.write_bytes(speech(_SECONDS))
    subject = Subject(
        ("roundhouse_transformers", "transcriptions"),
        "transformers",
        ("transcriptions", model, path),
        model,
        {"ROUNDHOUSE_CAPACITY": str(CLIPS)},
    )
    with up(subject, folder, starts=_STARTS) as pair:
        yield start(BASICS.start, pair)
        whole = speech(_SECONDS)
        yield speed(
            BASICS.speed, _SECONDS, lambda: taken(lambda: _heard(pair.engine, whole)), pair.library.seconds
        )
        yield _at_once(pair)
        yield idle(BASICS.idle, pair.engine)
        (step_seconds,) = in_turns(lambda: pair.library.seconds("step"))
        yield stop(STOP, pair.engine, lambda: left_recording(pair.engine, language="en"), step_seconds)


def _at_once(pair: Pair) -> Result:
    parts = clips()
    with ThreadPoolExecutor(CLIPS) as clients:
        ours, batch = in_turns(
            lambda: taken(lambda: list(clients.map(lambda clip: _heard(pair.engine, clip), parts))),
            lambda: pair.library.seconds("batch"),
        )
    return Result(AT_ONCE, CLIPS / ours, CLIPS / batch)


def _heard(engine: Engine, samples: bytes) -> None:
    answer = engine.post(wav(samples), language="en")
    assert answer.status == 200, answer.body
    assert answer.json["text"].startswith(" ".join(SPOKEN_WORDS[:2])), answer.body
