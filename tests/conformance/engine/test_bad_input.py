"""What the SDK makes of bad input for every engine of speech: an error of the right shape, and nothing stays.

What is an engine's own is in its own tests.
"""

import io
import resource
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
import pytest

from tests.conformance.engine.holding import MEBIBYTE, SPOOL, assert_nothing_stays, held
from tests.conformance.engine.running import SCRIPTED, THREADED, Engine, running, tones
from tests.support.recordings import wav
from tests.support.waiting import wait_until

HOURS = 10
SLOW_RATE = 1000
"""Samples a second: ten hours of them are made in a moment."""


@pytest.fixture(scope="module", params=[SCRIPTED, THREADED], ids=["process", "thread"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    spool = folder / SPOOL
    spool.mkdir()
    with running(request.param, folder, ROUNDHOUSE_SPOOL_DIR=str(spool), ROUNDHOUSE_CAPACITY="1") as engine:
        engine.until_ready()
        assert engine.post(tones(1)).status == 200  # what the first request loads has its place
        yield engine


@pytest.fixture(scope="module")
def ten_hours() -> bytes:
    made = io.BytesIO()
    with av.open(made, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SLOW_RATE, layout="mono")
        minutes = np.zeros((1, SLOW_RATE * 600), "<i2")
        for _ in range(HOURS * 6):
            frame = av.AudioFrame.from_ndarray(minutes, format="s16", layout="mono")
            frame.rate = SLOW_RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return made.getvalue()


@dataclass(frozen=True)
class Bad:
    id: str
    status: int
    code: str
    param: str | None
    audio: bytes = b""
    fields: tuple[tuple[str, str], ...] = ()
    hours: bool = False
    """Ten of them, instead of `audio`."""


BAD = [
    Bad("no audio", 400, "audio_unreadable", "file", b"no audio at all " * 100_000),
    Bad("cut off", 400, "audio_cut_off", "file", tones(60)[: 2 * MEBIBYTE]),
    Bad("ten hours", 400, "audio_too_long", "file", hours=True),
    Bad("no such language", 400, "unsupported_value", "language", tones(60), (("language", "xx"),)),
    Bad("endless prompt", 413, "form_too_large", "prompt", tones(60), (("prompt", "word " * 20_000),)),
    Bad("no such model", 404, "model_not_found", "model", tones(60), (("model", "nobody"),)),
    Bad("no field", 400, "unsupported_value", "response_format", tones(1), (("response_format", "pdf"),)),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_bad_input_is_told_and_leaves_nothing_behind(bad: Bad, engine: Engine, ten_hours: bytes) -> None:
    def ask() -> None:
        found = engine.post(ten_hours if bad.hours else bad.audio, **dict(bad.fields))
        assert (found.status, found.error["code"], found.error["param"]) == (bad.status, bad.code, bad.param)
        assert "Traceback" not in found.error["message"]

    assert_nothing_stays(engine, ask)
    assert engine.post(tones(1)).json["text"] == "sound"


def test_a_full_spool_refuses_who_comes_and_serves_who_comes_when_there_is_room(engine: Engine) -> None:
    """As a volume without room: no file of the engine may grow past 64 KiB."""
    limit = (1 << 16, resource.RLIM_INFINITY)
    before = held(engine)
    soft, hard = resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, limit)
    try:
        found = engine.post(wav(bytes(4 * MEBIBYTE)))
    finally:
        resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    assert (found.status, found.error["code"]) == (503, "spool_full")
    assert found.headers["retry-after"] == "5"
    assert "spool" in found.error["message"]
    assert engine.post(tones(1)).json["text"] == "sound"
    wait_until(lambda: held(engine).within(before), seconds=30, what=f"{before} or less", every=0.1)
