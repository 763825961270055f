"""PocketSphinx over HTTP, with one slot, against its decoder with the same settings on the same samples."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.engines.basics import basics
from tests.bench.engines.pair import Pair, Subject, idle, speed, start, taken, up
from tests.bench.engines.speech import speech
from tests.bench.figure import Result
from tests.support.recordings import wav

_SECONDS: Final = 10.0
_STARTS: Final = 3

BASICS: Final = basics("pocketsphinx", "10 s of speech", "x real", start=4)
FIGURES: Final = BASICS.all


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


def _heard(pair: Pair, audio: bytes) -> None:
    answer = pair.engine.post(audio, model="english")
    assert answer.status == 200, answer.body
    assert answer.json["text"], "the engine heard nothing"
