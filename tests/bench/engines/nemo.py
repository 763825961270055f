"""NeMo over HTTP, with a CTC model as large as parakeet's of 110 million weights, against the library.

Live it is heard anew each second; beside it is a small model that is made for streams and has learnt what is
said.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.engines.basics import basics, eight_at_once, stops
from tests.bench.engines.live import first_word, later
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
from tests.bench.engines.speech import CLIPS, clips, learnt_live, speech, spoken_live
from tests.bench.figure import Result
from tests.conformance.engine.nemo_engine import made_models
from tests.conformance.engine.running import Engine
from tests.support.recordings import wav

_SECONDS: Final = 20.0
_STREAM_MS: Final = "160"

BASICS: Final = basics("nemo", "20 s of speech", "x real", start=1.5)
STOP: Final = stops("nemo")
AT_ONCE: Final = eight_at_once("nemo", "clips", "clips/s")
LATER: Final = first_word("nemo")
STREAM_LATER: Final = first_word("nemo's streams")
FIGURES: Final = (*BASICS.all, AT_ONCE, LATER, STREAM_LATER, STOP)


def measure(folder: Path) -> Iterator[Result]:
    model, path = made("nemo", folder / "nemo"), folder / "speech.raw"
    path.write_bytes(speech(_SECONDS))
    stream = made_models() / "rnnt"
    source = {"type": "HuggingFace"}
    models = [
        {"name": name, "path": str(at), "source": source} for name, at in (("m", model), ("stream", stream))
    ]
    variables = {
        "ROUNDHOUSE_CAPACITY": str(CLIPS),
        "ROUNDHOUSE_MODELS": json.dumps(models),
        "ROUNDHOUSE_LATENCY_MS": _STREAM_MS,
    }
    subject = Subject(("roundhouse_nemo",), "nemo", (model, path, stream), variables=variables)
    with up(subject, folder) as pair:
        yield start(BASICS.start, pair)
        audio = wav(path.read_bytes())
        yield speed(
            BASICS.speed, _SECONDS, lambda: taken(lambda: _heard(pair.engine, audio)), pair.library.seconds
        )
        yield at_once(AT_ONCE, pair, [partial(_heard, pair.engine, wav(clip)) for clip in clips()])
        yield later(LATER, pair, spoken_live(), "live", model="m")
        yield later(STREAM_LATER, pair, learnt_live(), "stream", model="stream")
        yield idle(BASICS.idle, pair.engine)
        (step_seconds,) = in_turns(lambda: pair.library.seconds("step"))
        yield stop(STOP, pair.engine, lambda: left_recording(pair.engine), step_seconds)


def _heard(engine: Engine, audio: bytes) -> None:
    answer = engine.post(audio)
    assert answer.status == 200, answer.body
