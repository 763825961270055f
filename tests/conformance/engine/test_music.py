"""Engines of music over HTTP: formats, what is refused, progress, a client that leaves, and faults."""

import base64
import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conformance.engine.music_handlers import LIMIT_SECONDS, RATE, STEPS
from tests.conformance.engine.running import ROOT, Answer, Engine, running
from tests.support.waiting import wait_until

MUSIC = "/v1/music/generations"
HERTZ = 440


@pytest.fixture(scope="module", params=["Tone", "Duet"], ids=["process", "thread"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    command = ("-m", "tests.conformance.engine.music_handlers", request.param)
    with running(command, tmp_path_factory.mktemp("music")) as engine:
        engine.until_ready()
        yield engine


def post(engine: Engine, **fields: Any) -> Answer:
    told = {"model": "m", "prompt": "a tone", "duration": 2, "seed": HERTZ} | fields
    return engine.request("POST", MUSIC, json.dumps(told), {"Content-Type": "application/json"})


def heard(music: bytes, form: str) -> tuple[NDArray[np.float32], int]:
    """[channels, samples] and the rate, as another program would read them."""
    options = {"sample_rate": str(RATE)} if form == "s16le" else {}
    with av.open(io.BytesIO(music), "r", format=form, options=options) as container:
        frames = list(container.decode(audio=0))
    resampler = av.AudioResampler(format="fltp", layout=frames[0].layout.name)
    found = [out.to_ndarray() for frame in [*frames, None] for out in resampler.resample(frame)]
    return np.concatenate(found, axis=1), frames[0].sample_rate


def pitch(samples: NDArray[np.float32], rate: int) -> float:
    """Hertz of what is loudest."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))


@pytest.mark.parametrize(
    ("name", "form", "media_type", "slack_seconds"),
    [
        ("wav", "wav", "audio/wav", 0),
        ("flac", "flac", "audio/flac", 0),
        ("mp3", "mp3", "audio/mpeg", 0.1),
        ("opus", "ogg", "audio/ogg", 0.05),
        ("aac", "aac", "audio/aac", 0.1),
    ],
)
def test_each_format_holds_the_tone_for_as_long_as_was_asked(
    engine: Engine, name: str, form: str, media_type: str, slack_seconds: float
) -> None:
    found = post(engine, response_format=name)
    assert (found.status, found.headers["content-type"]) == (200, media_type)
    samples, rate = heard(found.body, form)
    assert abs(samples.shape[1] / rate - 2) <= slack_seconds
    assert samples.shape[0] == int(found.headers["x-roundhouse-channels"])
    for channel in samples:
        assert pitch(channel, rate) == pytest.approx(HERTZ, abs=1)
        assert np.percentile(np.abs(channel), 95) == pytest.approx(0.5, abs=0.05)
    assert found.body == post(engine, response_format=name).body


def test_bare_samples_are_told_by_the_headers(engine: Engine) -> None:
    found = post(engine, response_format="pcm", duration=0.5)
    told = {name: found.headers[f"x-roundhouse-{name}"] for name in ("sample-rate", "duration", "seed")}
    assert told == {"sample-rate": str(RATE), "duration": "0.5", "seed": str(HERTZ)}
    channels = int(found.headers["x-roundhouse-channels"])
    samples = np.frombuffer(found.body, "<i2").reshape(-1, channels)
    assert len(samples) == RATE // 2
    assert pitch(samples[:, -1].astype(np.float32), RATE) == pytest.approx(HERTZ, abs=2)


def test_what_the_client_leaves_out_is_chosen_and_told(engine: Engine) -> None:
    found = post(engine, duration=None, seed=None)
    assert float(found.headers["x-roundhouse-duration"]) == 10
    again = post(engine, duration=None, seed=int(found.headers["x-roundhouse-seed"]))
    assert again.body == found.body


@pytest.mark.req("S3-8")
def test_what_is_longer_than_the_model_makes_is_refused_and_as_long_is_not(engine: Engine) -> None:
    found = post(engine, duration=LIMIT_SECONDS + 0.5)
    assert (found.status, found.error["param"]) == (400, "duration")
    assert found.error["message"] == "Duration 12.5s exceeds model limit of 12s"
    assert post(engine, duration=LIMIT_SECONDS).status == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"prompt": "too long"}, "prompt"),
        ({"duration": 0}, "duration"),
        ({"duration": -1}, "duration"),
        ({"duration": "10"}, "duration"),
        ({"duration": 1e9}, "duration"),
        ({"response_format": "midi"}, "response_format"),
        ({"seed": -1}, "seed"),
        ({"temperature": 5}, "temperature"),
        ({"guidance_scale": 0.5}, "guidance_scale"),
        ({"top_p": 2}, "top_p"),
        ({"n": 2}, "n"),
        ({"adapter": "a"}, "adapter"),
        ({"stream": 1}, "stream"),
        ({"model": None}, "model"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused_with_the_field(
    engine: Engine, fields: dict[str, Any], param: str
) -> None:
    found = post(engine, **fields)
    assert (found.status, found.error["param"]) == (400, param)


def test_a_stream_tells_how_far_it_is_and_ends_with_the_same_music(engine: Engine) -> None:
    found = post(engine, stream=True)
    assert found.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in found.body.decode().splitlines() if line]
    parts = [each["progress"] for each in events if each["type"] == "music.progress"]
    assert parts == sorted(set(parts))
    assert len(parts) == STEPS
    pieces = [base64.b64decode(each["audio"]) for each in events if each["type"] == "music.audio.delta"]
    assert b"".join(pieces) == post(engine).body
    last = events[-1]
    assert (last["type"], last["seed"], last["duration"]) == ("music.audio.done", HERTZ, 2)


def test_a_client_that_leaves_frees_the_slot(engine: Engine) -> None:
    before = engine.metric("cancelled_total")
    with contextlib.closing(engine.connect()) as connection:
        connection.request("POST", MUSIC, json.dumps({"model": "m", "prompt": "endless"}))
        wait_until(lambda: engine.metric("slots_computing") == 1, seconds=30, what="it computes", every=0.02)
    wait_until(lambda: engine.metric("slots_computing") == 0, seconds=30, what="it is free", every=0.02)
    assert engine.metric("cancelled_total") == before + 1
    assert post(engine).status == 200


def test_a_deadline_ends_what_would_not_end(engine: Engine) -> None:
    told = json.dumps({"model": "m", "prompt": "endless"})
    found = engine.request("POST", MUSIC, told, {"X-Roundhouse-Deadline-Ms": "300"})
    assert (found.status, found.error["code"]) == (504, "deadline_exceeded")
    wait_until(lambda: engine.in_use == 0, seconds=30, what="it is free", every=0.02)


@pytest.mark.parametrize(
    ("prompt", "status", "code"), [("memory", 503, "out_of_memory"), ("fault", 500, "engine_failure")]
)
def test_a_fault_costs_its_request_alone(engine: Engine, prompt: str, status: int, code: str) -> None:
    found = post(engine, prompt=prompt)
    assert (found.status, found.error["code"]) == (status, code)
    assert post(engine).status == 200


def test_a_process_that_dies_costs_its_request_alone(tmp_path: Path) -> None:
    with running(("-m", "tests.conformance.engine.music_handlers", "Tone"), tmp_path) as engine:
        engine.until_ready()
        found = post(engine, prompt="die")
        assert (found.status, found.error["code"]) == (500, "engine_process_died")
        engine.until_ready()
        assert post(engine).status == 200


def test_the_guides_engine_runs_as_it_is_printed(tmp_path: Path) -> None:
    guide = (ROOT / "docs/guides/writing-a-music-engine.md").read_text()
    match = re.search(r"```python\n(.*?)```", guide, re.DOTALL)
    assert match is not None
    assert len(match[1].splitlines()) < 60
    script = tmp_path / "hum.py"
    script.write_text(match[1])
    with running([str(script)], tmp_path) as engine:
        engine.until_ready()
        samples, rate = heard(post(engine, prompt="220").body, "wav")
        assert pitch(samples[0], rate) == pytest.approx(220, abs=1)
        assert post(engine, prompt="loud").error["param"] == "prompt"
        engine.terminate()
        assert engine.ended() == 0


def test_what_was_made_is_counted(engine: Engine) -> None:
    before = engine.metric("music_seconds_total", model="m")
    post(engine, duration=1.5)
    assert engine.metric("music_seconds_total", model="m") == pytest.approx(before + 1.5)
    assert engine.metric("tokens_total", model="m", kind="output") >= STEPS
