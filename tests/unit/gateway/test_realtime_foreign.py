"""A session with an engine of another protocol that does not come to an end with what it was sent."""

import asyncio
import base64
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from typing_extensions import override

from roundhouse_api.enums import Encoding
from roundhouse_api.realtime import Close, Flush, write
from roundhouse_gateway.access import OPEN
from roundhouse_gateway.endpoints import Endpoints
from roundhouse_gateway.exchange import Exchange
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.realtime import endpoint, foreign
from roundhouse_gateway.realtime.asked import Asked, read_asked
from roundhouse_gateway.realtime.endpoint import EngineSockets, Try
from roundhouse_gateway.realtime.foreign import ForeignSocket
from roundhouse_gateway.realtime.inlet import Inlet
from roundhouse_gateway.realtime.marks import MOST_MARKS
from roundhouse_gateway.realtime.openai_engine import OpenAISpeaker
from roundhouse_gateway.realtime.speaches import SILENCE_SECONDS, SpeachesSpeaker
from roundhouse_gateway.realtime.speaker import Said, Speaker, begin
from roundhouse_gateway.realtime.vllm import KEPT_BYTES, VllmSpeaker
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.settings import Settings
from tests.unit.gateway.waiting import turns

LONG = 60.0
FRAME = 3200
"""Bytes: a tenth of a second."""
FRAMES = 3 * KEPT_BYTES // FRAME
FLUSH = write(Flush(type="flush", id="f"))


class Engine:
    """The engine's side: what it says is put here, and what it was told is kept."""

    def __init__(self) -> None:
        self._says: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()
        self.told: list[dict[str, Any]] = []

    def says(self, kind: str, **members: object) -> None:
        text = json.dumps({"type": kind, **members})
        self._says.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, text, None))

    def leaves(self) -> None:
        self._says.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None))

    async def receive(self) -> aiohttp.WSMessage:
        return await self._says.get()

    async def send_str(self, text: str) -> None:
        self.told.append(json.loads(text))

    async def close(self) -> None: ...

    @property
    def audio(self) -> bytes:
        return b"".join(base64.b64decode(each["audio"]) for each in self.told if "audio" in each)


async def session(engine: Engine, speaker: Speaker, asked: Asked, *greeting: str) -> ForeignSocket:
    inlet = Inlet(Encoding(asked.encoding), asked.sample_rate, speaker.rate)
    made = ForeignSocket(cast("aiohttp.ClientWebSocketResponse", engine), speaker, inlet, OPEN)
    for each in greeting:
        engine.says(each)
    await made.greet(begin("live", asked))
    await made.receive()
    return made


async def vllm(engine: Engine) -> ForeignSocket:
    asked = read_asked({"vad": "false"}, "live")
    return await session(engine, VllmSpeaker("m", asked), asked, "session.created")


async def ended(socket: ForeignSocket) -> aiohttp.WSMessage:
    async with asyncio.timeout(LONG):
        while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
    return message


class Client:
    """Says that an utterance ends and sends on, as fast as it can."""

    def __init__(self, socket: ForeignSocket) -> None:
        self._socket = socket
        self.sent = 0

    async def run(self) -> None:
        await self._socket.send_bytes(bytes(FRAME))
        await self._socket.send_str(FLUSH)
        for number in range(FRAMES):
            await self._socket.send_bytes(bytes([number % 256]) * FRAME)
            self.sent += FRAME


async def test_a_client_waits_for_an_engine_that_ends_an_utterance() -> None:
    engine = Engine()
    socket = await vllm(engine)
    client = Client(socket)
    sending = asyncio.create_task(client.run())
    await turns(10 * FRAMES)
    assert (client.sent, engine.audio) == (KEPT_BYTES, bytes(FRAME)), "so much is kept, and no more taken"
    engine.says("transcription.done", text="")
    async with asyncio.timeout(LONG):
        await sending
    expected = b"".join(bytes([number % 256]) * FRAME for number in range(FRAMES))
    assert engine.audio == bytes(FRAME) + expected, "nothing is lost, and all in order"
    await socket.close()


async def test_controls_are_not_kept_without_bound_either() -> None:
    engine = Engine()
    socket = await vllm(engine)
    done = 0

    async def flush() -> None:
        nonlocal done
        await socket.send_bytes(bytes(FRAME))
        for _ in range(1000):
            await socket.send_str(FLUSH)
            done += 1

    flushing = asyncio.create_task(flush())
    await turns(1000)
    assert done < 50
    flushing.cancel()
    await asyncio.gather(flushing, return_exceptions=True)
    await socket.close()


async def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "PATIENCE_SECONDS", 0.01)
    socket = await vllm(Engine())
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(LONG):
            await Client(socket).run()
    last = await ended(socket)
    assert (last.data, last.extra) == (
        Close.FAILED,
        "The engine has said nothing for 0.01 s.",
    )
    await socket.close()


class Confused(VllmSpeaker):
    """One with a mistake in it."""

    @override
    def told(self, text: str) -> Iterator[Said]:
        raise IndexError(text)


@pytest.mark.parametrize(("kind", "said"), [(Confused, "cannot be told"), (VllmSpeaker, "its protocol")])
async def test_what_cannot_be_told_ends_the_session_and_is_logged(
    kind: type[VllmSpeaker], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine()
    asked = read_asked({}, "live")
    socket = await session(engine, kind("m", asked), asked, "session.created")
    engine.says("transcription.delta", delta=7)
    assert (await ended(socket)).type is aiohttp.WSMsgType.CLOSED
    [line] = caplog.messages
    assert said in line
    await socket.close()


async def speaches(engine: Engine) -> ForeignSocket:
    asked = read_asked({"sample_rate": "24000"}, "live")
    return await session(engine, SpeachesSpeaker("m", asked), asked, "session.created", "session.updated")


async def test_speaches_hears_silence_only_after_audio() -> None:
    """Each would be three seconds of it."""
    engine = Engine()
    socket = await speaches(engine)
    await socket.send_str(FLUSH)
    assert engine.audio == b""
    await socket.send_bytes(bytes(FRAME))
    for _ in range(3):
        await socket.send_str(FLUSH)
    assert len(engine.audio) == FRAME + round(SILENCE_SECONDS * 24_000) * 2
    engine.says("session.updated")
    async with asyncio.timeout(LONG):
        for _ in range(4):
            assert "flushed" in (await socket.receive()).data
    await socket.close()


async def test_speaches_is_not_sent_silence_faster_than_it_hears_it() -> None:
    engine = Engine()
    socket = await speaches(engine)

    async def flush() -> None:
        for _ in range(2 * MOST_MARKS):
            await socket.send_bytes(bytes(2))
            await socket.send_str(FLUSH)

    def updates() -> int:
        return [each["type"] for each in engine.told].count("session.update") - 1

    flushing = asyncio.create_task(flush())
    await turns(1000)
    assert updates() == MOST_MARKS
    for _ in range(2 * MOST_MARKS):
        engine.says("session.updated")
        await turns()
    async with asyncio.timeout(LONG):
        await flushing
    assert updates() == 2 * MOST_MARKS
    await socket.close()


async def test_what_speaches_says_of_speech_that_was_cleared_is_passed_over() -> None:
    engine = Engine()
    socket = await speaches(engine)
    await socket.send_bytes(bytes(FRAME))
    engine.says("input_audio_buffer.speech_started", item_id="a")
    engine.says("input_audio_buffer.cleared")
    engine.says("input_audio_buffer.speech_stopped", item_id="a")
    engine.says("input_audio_buffer.speech_started", item_id="b")
    async with asyncio.timeout(LONG):
        for number in (1, 2):
            started = json.loads((await socket.receive()).data)
            assert (started["type"], started["utterance"]) == ("vad.speech_start", number)
    await socket.close()


async def test_nobody_waits_for_an_engine_that_has_left() -> None:
    engine = Engine()
    socket = await vllm(engine)
    sending = asyncio.create_task(Client(socket).run())
    await turns(10 * FRAMES)
    engine.leaves()
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(LONG):
            await sending
    assert (await ended(socket)).type is aiohttp.WSMsgType.CLOSED
    await socket.close()


async def openai(engine: Engine, **query: str) -> ForeignSocket:
    asked = read_asked({"sample_rate": "24000", **query}, "live")
    return await session(engine, OpenAISpeaker("m", asked), asked, "session.created", "session.updated")


async def heard(socket: ForeignSocket, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(LONG):
        while True:
            said: dict[str, Any] = json.loads((await socket.receive()).data)
            if said["type"] == kind:
                return said


@pytest.mark.parametrize("named", [True, False], ids=["the event is named", "it is not"])
async def test_openai_has_nothing_to_commit_where_it_has_just_done_so_itself(named: bool) -> None:
    engine = Engine()
    socket = await openai(engine)
    await socket.send_bytes(bytes(FRAME))
    await socket.send_str(FLUSH)
    commit = engine.told[-1]
    assert commit["type"] == "input_audio_buffer.commit"
    engine.says("input_audio_buffer.speech_started", item_id="a", audio_start_ms=0)
    engine.says("input_audio_buffer.speech_stopped", item_id="a", audio_end_ms=50)
    engine.says("input_audio_buffer.committed", item_id="a")
    error = {"message": "x", "code": "input_audio_buffer_commit_empty"}
    error |= {"event_id": commit["event_id"]} if named else {}
    engine.says("error", error=error)
    engine.says("conversation.item.input_audio_transcription.completed", item_id="a", transcript=" yes ")
    final = await heard(socket, "transcript.final")
    assert (final["text"], final["start"], final["end"]) == ("yes", 0, 0.05)
    assert (await heard(socket, "flushed"))["id"] == "f"
    engine.says("error", error={"message": "Your session hit the maximum duration.", "event_id": None})
    message = await ended(socket)
    assert (message.data, message.extra) == (Close.FAILED, "Your session hit the maximum duration.")
    await socket.close()


async def test_who_is_compatible_with_openai_may_say_null_and_parts_of_milliseconds() -> None:
    engine = Engine()
    socket = await openai(engine)
    await socket.send_bytes(bytes(FRAME))
    engine.says("input_audio_buffer.timeout", item_id=None, audio_start_ms=None)
    engine.says("input_audio_buffer.speech_started", item_id="a", audio_start_ms=0.5)
    engine.says("input_audio_buffer.speech_stopped", item_id="a", audio_end_ms=50.5)
    engine.says("input_audio_buffer.committed", item_id="a")
    engine.says("conversation.item.input_audio_transcription.completed", item_id="a", transcript=None)
    final = await heard(socket, "transcript.final")
    assert (final["text"], final["start"], final["end"]) == ("", 0.0005, 0.0505)
    await socket.close()


async def test_openais_items_may_be_done_in_any_order() -> None:
    engine = Engine()
    socket = await openai(engine, vad="false")
    for item in ("a", "b"):
        await socket.send_bytes(bytes(FRAME))
        await socket.send_str(FLUSH)
        engine.says("input_audio_buffer.committed", item_id=item)
    for item in ("b", "a"):
        engine.says("conversation.item.input_audio_transcription.completed", item_id=item, transcript=item)
    finals = [await heard(socket, "transcript.final") for _ in range(2)]
    assert [(each["utterance"], each["text"]) for each in finals] == [(2, "b"), (1, "a")]
    assert finals[1]["end"] == finals[0]["start"] == pytest.approx(1 / 15)
    for _ in range(2):
        await heard(socket, "flushed")
    await socket.close()


async def test_no_place_is_taken_at_an_engine_before_its_audio_can_be_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*_: object) -> Inlet:
        raise ImportError("soxr")

    async def connect(*_: object) -> object:
        raise AssertionError("it was asked")

    monkeypatch.setattr(foreign, "_inlet", missing)
    monkeypatch.setattr(endpoint, "connect", connect)
    metrics = Metrics(lambda: 0.0, lambda: 0)
    registry = Registry(["models"], aliases_enabled=True)
    sockets = EngineSockets(Settings(), metrics, Endpoints(registry, metrics))
    effective = SimpleNamespace(dialect="VLLM")
    entry: Any = SimpleNamespace(
        model=SimpleNamespace(id="live", engine_model="m"), record=SimpleNamespace(effective=effective)
    )
    with pytest.raises(ImportError):
        await sockets._begin(entry, Try("http://127.0.0.1:9", 0.0), {}, Exchange("GET", "/", "id"))
