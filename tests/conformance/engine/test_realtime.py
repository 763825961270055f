"""Realtime sessions with an engine: what is heard while it is said, in every encoding, and how they end."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import av
import numpy as np
import pytest
from av.audio.resampler import AudioResampler
from websockets.exceptions import InvalidHandshake, InvalidStatus

from roundhouse_api.realtime import PATH, Close, Partial, SessionBegin, SessionEnd, SessionEnding, Transcript
from tests.conformance.engine.running import LIVE, LIVE_THREADED, POCKETSPHINX, Engine, running, tones
from tests.conformance.engine.streaming import DEADLINE, Stream, go_forward_samples, streaming
from tests.support.recordings import GO_FORWARD_WORDS, WEATHER_WORDS, spoken, wav
from tests.support.waiting import eventually, wait_until

SECOND = bytes(32_000)


@pytest.fixture(scope="module")
def sphinx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """PocketSphinx with one slot and two places for sessions."""
    folder = tmp_path_factory.mktemp("realtime")
    with running(
        POCKETSPHINX, folder, MODELS="english", ROUNDHOUSE_CAPACITY="1", ROUNDHOUSE_SESSIONS="2"
    ) as made:
        made.until_ready()
        yield made


@pytest.fixture
def engine(sphinx: Engine) -> Engine:
    """With both places free: a session of the test before may have its own a moment longer."""
    wait_until(
        lambda: sessions(sphinx) == {"capacity": 2, "inUse": 0},
        seconds=60,
        what="both places are",
        every=0.02,
    )
    return sphinx


@contextlib.asynccontextmanager
async def session(engine: Engine, **query: str) -> AsyncIterator[Stream]:
    async with streaming(engine.port, {"model": "english"} | query) as stream:
        begin = await stream.next()
        assert isinstance(begin, SessionBegin)
        assert (begin.version, begin.model) == (1, query.get("model", "english"))
        yield stream


def sessions(engine: Engine) -> dict[str, int]:
    (model,) = engine.get("/v1/models").json["data"]
    found: dict[str, int] = model["sessions"]
    return found


async def test_speech_is_heard_while_it_is_spoken(engine: Engine) -> None:
    async with session(engine, word_timestamps="true") as stream:
        await stream.send(go_forward_samples() + SECOND * 2)
        final = await stream.until("transcript.final")
        assert "session.end" not in stream.kinds
        await stream.say("end")
        assert await stream.rest() == (Close.NORMAL, "The client ended the session.")
    kinds = [kind for kind in stream.kinds if kind != "transcript.partial"]
    assert kinds == [
        *("session.begin", "vad.speech_start", "vad.speech_end", "transcript.final", "session.end"),
    ]
    partials = [event.text for event in stream.seen if isinstance(event, Partial)]
    assert partials[0] == "go"
    assert len(partials) > 3
    assert final.text == GO_FORWARD_WORDS
    assert [word.text for word in final.words] == GO_FORWARD_WORDS.split()
    assert (final.utterance, final.language) == (1, "en")
    end = stream.seen[-1]
    assert isinstance(end, SessionEnd)
    assert end.audio_seconds == pytest.approx(len(go_forward_samples() + SECOND * 2) / 32_000, abs=0.01)


async def test_what_is_heard_is_what_a_recording_says(engine: Engine) -> None:
    audio = b"".join(
        piece + SECOND * 2
        for piece in (go_forward_samples(), spoken(WEATHER_WORDS)[44:], spoken("ten of clubs")[44:])
    )
    answer = engine.post(
        wav(audio), model="english", response_format="verbose_json", **{"timestamp_granularities[]": "word"}
    )
    async with session(engine, word_timestamps="true", interim_results="false") as stream:
        await stream.send(audio, pace=100)
        await stream.say("end")
        await stream.rest()
    finals = [event for event in stream.seen if isinstance(event, Transcript)]
    heard = [(word.text, word.start, word.end) for each in finals for word in each.words or ()]
    batch = [(word["word"], word["start"], word["end"]) for word in answer.json["words"]]
    assert [word for word, _, _ in heard] == [word for word, _, _ in batch]
    for (_, *times), (_, *batch_times) in zip(heard, batch, strict=True):
        assert times == pytest.approx(batch_times, abs=0.01)
    assert "transcript.partial" not in stream.kinds


def recoded(encoding: str, rate: int) -> bytes:
    """GO_FORWARD at another rate and in another encoding, by FFmpeg's own codecs."""
    formats = {"pcm_s16le": "s16", "pcm_f32le": "flt", "mulaw": "s16", "alaw": "s16"}
    resampler = AudioResampler(format=formats[encoding], layout="mono", rate=rate)
    samples = np.frombuffer(go_forward_samples() + SECOND, "<i2").reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.sample_rate = 16_000
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    if encoding.startswith("pcm"):
        width = 4 if encoding == "pcm_f32le" else 2
        return b"".join(bytes(each.planes[0])[: each.samples * width] for each in frames)
    codec = av.CodecContext.create(f"pcm_{encoding}", "w")
    codec.sample_rate, codec.layout, codec.format = rate, "mono", "s16"  # type: ignore[attr-defined]
    return b"".join(bytes(packet) for each in frames for packet in codec.encode(each))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("encoding", "rate", "width"),
    [("pcm_s16le", 24_000, 2), ("pcm_f32le", 48_000, 4), ("mulaw", 16_000, 1), ("alaw", 16_000, 1)],
)
async def test_any_encoding_at_any_rate(encoding: str, rate: int, width: int, engine: Engine) -> None:
    async with session(engine, encoding=encoding, sample_rate=str(rate), interim_results="false") as stream:
        # Pieces of odd lengths end in the middle of samples.
        await stream.send(recoded(encoding, rate), byte_rate=rate * width + 7)
        await stream.say("end")
        assert (await stream.rest())[0] == Close.NORMAL
    assert stream.texts == [GO_FORWARD_WORDS]


async def test_without_vad_an_utterance_ends_where_the_client_says(engine: Engine) -> None:
    async with session(engine, vad="false") as stream:
        await stream.send(go_forward_samples())
        await stream.say("flush", id="first")
        flushed = await stream.until("flushed")
        assert flushed.id == "first"
        await stream.send(go_forward_samples())
        await stream.say("clear", id="no")
        assert (await stream.until("cleared")).id == "no"
        await stream.send(go_forward_samples())
        await stream.say("flush")
        await stream.until("flushed")
        assert stream.texts == [GO_FORWARD_WORDS] * 2
        await stream.say("end")
        assert (await stream.rest())[0] == Close.NORMAL
    assert stream.texts == [GO_FORWARD_WORDS] * 2


@pytest.mark.parametrize("kind", [LIVE, LIVE_THREADED], ids=["process", "thread"])
async def test_a_recording_sent_at_once_makes_nobody_lag(kind: tuple[str, ...], tmp_path: Path) -> None:
    with running(kind, tmp_path) as live:
        live.until_ready()
        async with session(live, model="m") as stream:
            await stream.send(tones(20)[44:], pace=1e9)
            await stream.say("end")
            assert (await stream.rest())[0] == Close.NORMAL
        assert stream.texts == ["sound"] * 20
        assert max(event.lag_ms for event in stream.seen) < 3000


async def test_an_engine_without_sessions_says_so(scripted: Engine) -> None:
    assert "sessions" not in scripted.get("/v1/models").json["data"][0]
    with pytest.raises(InvalidStatus) as refused:
        await session(scripted, model="m").__aenter__()
    assert refused.value.response.status_code == 400


async def test_every_place_taken_is_said_before_the_handshake(engine: Engine) -> None:
    async with session(engine), session(engine):
        assert sessions(engine) == {"capacity": 2, "inUse": 2}
        with pytest.raises(InvalidStatus) as full:
            await session(engine).__aenter__()
        response = full.value.response
        assert (response.status_code, response.headers["X-Roundhouse-Reason"]) == (429, "full")
        assert json.loads(response.body or b"")["error"]["code"] == "engine_full"
        # Recordings have places of their own.
        assert engine.post(wav(go_forward_samples()), model="english").json["text"] == GO_FORWARD_WORDS
    wait_until(lambda: sessions(engine)["inUse"] == 0, seconds=30, what="the places are free")
    assert "handshake" not in engine.logged, "to be full is no error"


async def test_a_long_prompt_is_taken_and_one_that_is_too_long_is_refused(engine: Engine) -> None:
    """The handshake's own parser takes 8 KiB a line, and nobody was told of its refusal."""
    async with session(engine, prompt="a" * 10_000):
        pass
    with pytest.raises((InvalidHandshake, ConnectionError)):  # it may be closed while it still sends
        await session(engine, prompt="a" * 1_000_000).__aenter__()


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ({"model": "nonesuch"}, 404, "model"),
        ({"language": "de"}, 400, "language"),
        ({"encoding": "mp3"}, 400, "encoding"),
        ({"sample_rate": "lots"}, 400, "sample_rate"),
        ({"sample_rate": "4000"}, 400, "sample_rate"),
        ({"samplerate": "16000"}, 400, "samplerate"),
        ({"vad": "maybe"}, 400, "vad"),
    ],
)
async def test_what_cannot_be_done_is_refused(
    query: dict[str, str], status: int, param: str, engine: Engine
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await session(engine, **query).__aenter__()
    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body or b"")["error"]["param"] == param


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"type": "config"}', '{"type": "flush", "id": 7}'])
async def test_a_message_that_is_none_ends_the_session(text: str, engine: Engine) -> None:
    async with session(engine) as stream:
        await stream.socket.send(text)
        code, reason = await stream.rest()
    assert (code, bool(reason)) == (Close.PARAMETERS, True)
    assert stream.kinds[-2:] == ["error", "session.end"]


async def test_a_frame_that_is_too_large_ends_the_session(engine: Engine) -> None:
    async with session(engine) as stream:
        await stream.socket.send(bytes((1 << 20) + 1))
        assert (await stream.rest())[0] == Close.TOO_LARGE


async def test_a_process_that_dies_fails_its_session_alone(engine: Engine) -> None:
    async with session(engine) as first, session(engine) as second:
        before = {pid: _ticks(pid) for pid in engine.children}
        await second.send(go_forward_samples()[:48_000])
        await second.until("transcript.partial")
        busiest = max(before, key=lambda pid: _ticks(pid) - before[pid])
        os.kill(busiest, signal.SIGKILL)
        assert (await second.rest())[0] == Close.FAILED
        assert second.kinds[-2:] == ["error", "session.end"]
        await first.send(go_forward_samples() + SECOND * 2)
        assert (await first.until("transcript.final")).text == GO_FORWARD_WORDS
    wait_until(lambda: sessions(engine) == {"capacity": 2, "inUse": 0}, seconds=60, what="it is back")


def _ticks(pid: int) -> int:
    """Of the processor, spent in user mode."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])


async def test_a_client_that_goes_leaves_its_place(engine: Engine) -> None:
    async with session(engine) as stream:
        await stream.send(go_forward_samples()[:32_000])
        assert stream.socket.transport is not None
        stream.socket.transport.abort()

    async def free() -> bool:
        return sessions(engine)["inUse"] == 0

    await eventually(free, seconds=30, what="its place is free")


@pytest.mark.parametrize("interim", ["true", "false"])
async def test_a_client_that_goes_while_it_speaks_spoils_no_session_after_it(
    interim: str, engine: Engine
) -> None:
    """Each place for a session is left like that once."""
    async with session(engine) as first, session(engine) as second:
        for stream in (first, second):
            await stream.send(go_forward_samples()[:32_000])
            await stream.until("transcript.partial")
            assert stream.socket.transport is not None
            stream.socket.transport.abort()

    async def free() -> bool:
        return sessions(engine) == {"capacity": 2, "inUse": 0}

    await eventually(free, seconds=60, what="their places are free")
    for _ in range(2):
        async with session(engine, interim_results=interim) as stream:
            await stream.send(go_forward_samples())
            await stream.say("end")
            assert (await stream.rest())[0] == Close.NORMAL
        assert stream.texts == [GO_FORWARD_WORDS]


async def test_silent_clients_are_ended(tmp_path: Path) -> None:
    with running(LIVE, tmp_path, ROUNDHOUSE_SESSION_IDLE_SECONDS="0.3") as engine:
        engine.until_ready()
        async with streaming(engine.port, {"model": "m"}) as stream:
            assert (await stream.rest())[0] == Close.IDLE


async def test_an_engine_that_leaves_says_so_and_when(tmp_path: Path) -> None:
    with running(LIVE, tmp_path, ROUNDHOUSE_DRAIN_SECONDS="8") as engine:
        engine.until_ready(sessions=2)
        async with (
            streaming(engine.port, {"model": "m"}) as stays,
            streaming(engine.port, {"model": "m"}) as leaves,
        ):
            await stays.next()
            await leaves.next()
            engine.terminate()
            ending = await leaves.until("session.ending")
            assert isinstance(ending, SessionEnding)
            assert ending.deadline_ms == 8000
            with pytest.raises(InvalidStatus) as refused:
                await streaming(engine.port, {"model": "m"}).__aenter__()
            assert refused.value.response.headers["X-Roundhouse-Reason"] == "draining"
            await leaves.say("end")
            assert (await leaves.rest())[0] == Close.NORMAL
            assert (await stays.rest())[0] == Close.GOING_AWAY
        assert engine.ended() == 0


async def test_an_engine_that_falls_behind_says_so_and_gives_up(tmp_path: Path) -> None:
    with running(LIVE, tmp_path) as engine:
        engine.until_ready()
        async with streaming(engine.port, {"model": "m", "prompt": "sleep 1"}) as stream:
            noise = np.random.default_rng(7).normal(0, 9000, 16_000).astype("<i2").tobytes()
            await stream.send_on(noise, pace=1)
            code, reason = await stream.rest()
        assert code == Close.LAG
        assert "behind" in reason
        assert "warning" in stream.kinds
        assert stream.seen[-1].lag_ms >= 5000


async def test_pings_behind_minutes_of_audio_are_answered_while_it_is_heard(tmp_path: Path) -> None:
    """Python's `websockets` leaves after twenty seconds without an answer; the engine takes a minute."""
    with running(LIVE, tmp_path) as engine:
        engine.until_ready()
        query = {"model": "m", "prompt": "sleep 0.08", "interim_results": "false", "vad": "false"}
        async with streaming(engine.port, query) as stream:
            await stream.send(bytes(6 << 20), byte_rate=1 << 22, pace=1e9)
            await asyncio.wait_for(await stream.socket.ping(), DEADLINE)
            heard = engine.metric("compute_seconds_total", model="m")
            assert heard < 30, "of sixty"


async def test_who_leaves_more_audio_than_is_read_ahead_is_noticed(tmp_path: Path) -> None:
    """What is read already would be heard for two minutes."""
    with running(LIVE_THREADED, tmp_path) as engine:
        engine.until_ready()
        query = {"model": "m", "prompt": "sleep 0.12", "interim_results": "false", "vad": "false"}
        async with streaming(engine.port, query) as stream:
            await stream.send(bytes(10 << 20), byte_rate=1 << 22, pace=1e9)
            assert stream.socket.transport is not None
            stream.socket.transport.abort()

        async def free() -> bool:
            return sessions(engine)["inUse"] == 0

        await eventually(free, seconds=90, what="its place is free")
        assert engine.metric("sessions_total", model="m", code="0") == 1


async def test_an_engine_that_reads_no_more_for_now_shows_that_it_lives(tmp_path: Path) -> None:
    """Pings stand behind minutes of audio, and nothing is to be told of its first half minute."""
    with running(LIVE, tmp_path) as engine:
        engine.until_ready()
        query = {"model": "m", "prompt": "sleep 0.08", "encoding": "mulaw", "sample_rate": "8000"}
        quiet = {"interim_results": "false", "vad": "false"}
        url = f"{engine.url}{PATH}?{urlencode({**query, **quiet})}"
        noise = np.random.default_rng(7).integers(0, 256, 1 << 20, np.uint8).tobytes()
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(url, heartbeat=12) as socket,  # it gives up after 18 s without a word
        ):
            for _ in range(10):  # of which eight are read ahead
                await socket.send_bytes(noise)
            for kind in ("session.begin", "vad.speech_start"):
                assert (await socket.receive_json(timeout=DEADLINE))["type"] == kind
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(20):
                    while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                        pass
                    pytest.fail(f"the session is over: {message}")
            assert not socket.closed


async def test_metrics_tell_of_sessions(engine: Engine) -> None:
    def told() -> tuple[float, ...]:
        return (
            engine.metric("sessions_total", model="english", code="1000"),
            engine.metric("session_audio_seconds_total", model="english"),
            engine.metric("compute_seconds_total", model="english"),
        )

    before = told()
    async with session(engine) as stream:
        assert engine.metric("sessions_in_use") == 1
        await stream.send(SECOND * 2)
        await stream.say("end")
        await stream.rest()

    async def counted() -> bool:
        sessions, seconds, computed = (now - then for now, then in zip(told(), before, strict=True))
        return sessions == 1 and seconds == pytest.approx(2) and computed > 0

    await eventually(counted, seconds=30, what="one of two seconds")
    assert engine.metric("sessions_in_use") == 0
