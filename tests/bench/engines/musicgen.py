"""MusicGen over HTTP, its decoder of base's size, against the library."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.engines.basics import basics, stops
from tests.bench.engines.making import made
from tests.bench.engines.pair import Pair, Subject, idle, left, speed, start, stop, taken, up
from tests.bench.engines.texts import MUSIC_SECONDS, PROMPT
from tests.bench.figure import Result

_PATH: Final = "/v1/music/generations"
_STEPS_A_SECOND: Final = 50
_LEFT_SECONDS: Final = 20

BASICS: Final = basics("musicgen", "a second of music", "x real", start=1.5)
STOP: Final = stops("musicgen")
FIGURES: Final = (*BASICS.all, STOP)


def measure(folder: Path) -> Iterator[Result]:
    model = made("music", folder / "music")
    with up(Subject(("roundhouse_musicgen",), "musicgen", (model,), model), folder) as pair:
        yield start(BASICS.start, pair)
        found = speed(
            BASICS.speed,
            MUSIC_SECONDS,
            lambda: taken(lambda: _compose(pair)),
            pair.library.seconds,
        )
        yield found
        yield idle(BASICS.idle, pair.engine)
        assert found.reference
        step_seconds = MUSIC_SECONDS / found.reference / (MUSIC_SECONDS * _STEPS_A_SECOND)
        asked = {"prompt": PROMPT, "duration": _LEFT_SECONDS}
        yield stop(STOP, pair.engine, lambda: left(pair.engine, _PATH, **asked), step_seconds)


def _compose(pair: Pair) -> None:
    headers = {"Content-Type": "application/json"}
    asked = f'{{"model": "m", "prompt": "{PROMPT}", "duration": {MUSIC_SECONDS}, "response_format": "wav"}}'
    answer = pair.engine.request("POST", _PATH, asked, headers)
    assert answer.status == 200, answer.body
