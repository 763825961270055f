"""Requests and sessions that nobody would write, at a running PocketSphinx engine.

Whatever comes is answered, or refused in the one shape, and nothing of it stays.
"""

import asyncio
import json
import struct
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

from roundhouse_api.realtime import Close
from tests.conformance.engine.holding import SPOOL, held, resident_bytes
from tests.conformance.engine.running import (
    MARK,
    POCKETSPHINX,
    TRANSCRIPTIONS,
    Answer,
    Engine,
    form,
    running,
)
from tests.conformance.engine.streaming import go_forward_samples, streaming
from tests.support.recordings import GO_FORWARD_WORDS, go_forward, wav
from tests.support.torn import Cut, cuts, pieces_of_forms, torn
from tests.support.waiting import wait_until
from tests.unit.engine.encoding import encode

MEBIBYTE = 1 << 20
FORMATS = ("wav", "mp3", "ogg", "flac")
NAMES = (
    *("model", "language", "response_format", "temperature", "stream", "prompt", "hotwords"),
    *("timestamp_granularities[]", "diarization", "x"),
)
VALUES = (
    *("english", "en", "de", "json", "text", "srt", "vtt", "verbose_json", "word", "segment", "true", "no"),
    *("0.5", "-1", "nan", "inf", "1e999", "null", "[]", "\0", "\u202e", "é" * 9, "x" * 70_000),
)
PIECES = (
    b"RIFF",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x80\0\0\0",
    b"data",
    b"OggS",
    b"fLaC",
    b"\xff\xfb",
    b"ID3",
)


def examples(number: int) -> settings:
    return settings(
        max_examples=number, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("fuzzed")
    (folder / SPOOL).mkdir()
    told = {
        "MODELS": "english",
        "ROUNDHOUSE_CAPACITY": "1",
        "ROUNDHOUSE_SESSIONS": "2",
        "ROUNDHOUSE_SPOOL_DIR": str(folder / SPOOL),
        # What claims to be spoken slowly is long, and would be listened to for as long.
        "ROUNDHOUSE_AUDIO_LIMIT_SECONDS": "3",
    }
    with running(POCKETSPHINX, folder, **told) as engine:
        engine.until_ready(sessions=2)
        for kind in FORMATS:  # what the first of each loads has its place
            assert engine.post(recording(kind), model="english").status == 200
        asyncio.run(session(engine, [b"\0" * 640, '{"type": "end"}']))
        yield engine


@pytest.fixture
def engine(served: Engine) -> Iterator[Engine]:
    """Around all examples of a test: it lives on, and holds nothing that it did not hold before."""
    before, memory = held(served), resident_bytes(served)
    yield served
    assert served.post(go_forward(), model="english").json["text"] == GO_FORWARD_WORDS
    (model,) = served.get("/v1/models").json["data"]
    assert model["state"] == "ready"
    wait_until(lambda: held(served).within(before), seconds=30, what=f"{before} or less", every=0.1)
    assert resident_bytes(served) - memory < 24 * MEBIBYTE
    assert "Traceback" not in served.logged, served.logged


@cache
def recording(kind: str) -> bytes:
    """A fifth of a second of a person's speech."""
    said = wav(go_forward_samples()[24_000:30_400])
    codecs = {"mp3": ("mp3", "libmp3lame"), "ogg": ("ogg", "libopus"), "flac": ("flac", "flac")}
    return encode(said, *codecs[kind]) if kind in codecs else said


def in_shape(answer: Answer) -> None:
    """An answer, or the client's fault told in the one shape."""
    if answer.status != 200:
        assert 400 <= answer.status < 500, answer
        assert answer.error["type"] == "invalid_request_error"
        assert len(answer.error["message"]) < 1000


@examples(80)
@given(where=cuts(500, pieces_of_forms(MARK)))
def test_forms_with_pieces_put_in_and_torn_out(where: list[Cut], engine: Engine) -> None:
    body, headers = form(wav(bytes(640)), model="english", language="en", prompt="a b")
    in_shape(engine.request("POST", TRANSCRIPTIONS, torn(body, where), headers))


@examples(60)
@given(fields=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text(max_size=20)))
def test_fields_of_any_value(fields: dict[str, str], engine: Engine) -> None:
    in_shape(engine.post(wav(bytes(640)), **{"model": "english"} | fields))


@examples(50)
@given(
    kind=st.sampled_from(FORMATS),
    where=cuts(2_000, PIECES),
    end=st.none() | st.integers(0, 10_000),
    other=st.none() | st.sampled_from(FORMATS),
)
def test_recordings_with_pieces_put_in_and_torn_out(
    kind: str, where: list[Cut], end: int | None, other: str | None, engine: Engine
) -> None:
    audio = torn(recording(kind), where)[:end] + (recording(other) if other else b"")
    in_shape(engine.post(audio, model="english"))


MESSAGES = st.one_of(
    st.binary(max_size=4_000),
    st.sampled_from(
        [go_forward_samples()[16_000:22_400], b"", '{"type": "flush"}', '{"type": "flush", "id": "a"}']
    ),
    st.sampled_from(['{"type": "clear"}', '{"type": "end"}', '{"type": "end", "id": 5}', "[" * 200_000]),
    st.builds(
        json.dumps,
        st.fixed_dictionaries(
            {"type": st.sampled_from(["flush", "clear", "end", "config", "", None, 7])},
            optional={"id": st.none() | st.text(max_size=9) | st.integers()},
        ),
    ),
    st.text(max_size=30),
)


async def session(engine: Engine, messages: list[bytes | str], **query: str) -> None:
    """Everything is sent, in this order, and the engine has said goodbye in its own words."""
    async with streaming(engine.port, {"model": "english", **query}) as stream:
        try:
            for message in messages:
                await stream.socket.send(message)
            await stream.say("end")
        except ConnectionClosed:
            pass
        code, _ = await stream.rest()
        assert code in {1000, Close.PARAMETERS, Close.TOO_LARGE}, (code, stream.kinds)
        assert stream.kinds[-1] == "session.end"


@examples(30)
@given(messages=st.lists(MESSAGES, max_size=8), vad=st.booleans())
def test_sessions_with_messages_in_any_order(
    messages: list[bytes | str], *, vad: bool, engine: Engine
) -> None:
    with_place(engine)
    asyncio.run(session(engine, messages, vad=str(vad).lower()))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One of WebSocket's, as the protocol has it or not."""
    payload = draw(st.binary(max_size=200))
    head, masked = draw(st.integers(0, 255)), draw(st.booleans())
    length = draw(st.sampled_from([len(payload), 0, 125, 126, 127]))
    long = {126: struct.pack("!H", len(payload)), 127: struct.pack("!Q", draw(st.integers(0, 2**64 - 1)))}
    return bytes([head, length | 0x80 * masked]) + long.get(length, b"") + bytes(4 * masked) + payload


@examples(30)
@given(sent=st.lists(frames(), min_size=1, max_size=5))
def test_frames_that_are_none(sent: list[bytes], engine: Engine) -> None:
    async def send() -> None:
        async with streaming(engine.port, {"model": "english"}) as stream:
            await stream.until("session.begin")
            stream.socket.transport.write(b"".join(sent))
            stream.socket.transport.write_eof()
            await asyncio.wait_for(stream.socket.wait_closed(), 60)

    with_place(engine)
    asyncio.run(send())


@examples(40)
@given(
    query=st.dictionaries(
        st.sampled_from(
            ["model", "language", "encoding", "sample_rate", "vad", "silence_ms", "interim_results", "x"]
        ),
        st.sampled_from([*VALUES[:-1], "8000", "16000", "s16le", "mulaw"]) | st.text(max_size=9),
    )
)
def test_sessions_that_ask_for_anything(query: dict[str, str], engine: Engine) -> None:
    with_place(engine)
    response = asyncio.run(refusal(engine, query))
    if response is not None:
        assert 400 <= response.status_code < 500, response
        assert json.loads(response.body or b"")["error"]["type"] == "invalid_request_error"


async def refusal(engine: Engine, query: dict[str, str]) -> Response | None:
    """None where it is heard to its end."""
    try:
        await session(engine, [bytes(640)], **query)
    except InvalidStatus as refused:
        return refused.response
    return None


def with_place(engine: Engine) -> None:
    """A session of the example before may have its own a moment longer."""
    wait_until(lambda: engine.metric("sessions_in_use") == 0, seconds=60, what="places are free", every=0.01)
