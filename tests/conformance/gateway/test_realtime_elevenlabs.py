"""ElevenLabs' realtime transcription by its official client, over real speech, and single-use tokens."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from elevenlabs import AsyncElevenLabs, AudioFormat, CommitStrategy, RealtimeEvents
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from roundhouse_api.realtime import Close
from tests.conformance.engine.streaming import DEADLINE, go_forward_samples
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.live import NOISE, SPEECH, guarded_speech, live, publish
from tests.conformance.gateway.loop_thread import LoopThread
from tests.support.recordings import GO_FORWARD_WORDS

SECOND = bytes(32_000)
PATH = "/v1/speech-to-text/realtime"
MakeWorld = Callable[[Mapping[str, str]], World]


@pytest.fixture(scope="module")
def served(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway that asks for keys, before pocketsphinx, with an owner's key."""
    with guarded_speech(loop_thread, tmp_path_factory.mktemp("elevenlabs")) as (world, _):
        yield world


class Heard:
    """What the client's handlers were called with."""

    def __init__(self, connection: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.closed = asyncio.Event()
        self._news = asyncio.Event()
        for kind in RealtimeEvents:
            if kind not in (RealtimeEvents.OPEN, RealtimeEvents.CLOSE, RealtimeEvents.ERROR):
                connection.on(kind, self._take)
        connection.on(RealtimeEvents.CLOSE, self.closed.set)

    def _take(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self._news.set()

    async def until(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE):
            while True:
                found = [event for event in self.events if event["message_type"] == kind]
                if found:
                    return found[-1]
                self._news.clear()
                await self._news.wait()


def client(world: World, http: httpx.AsyncClient | None = None) -> AsyncElevenLabs:
    """`http` is what it makes plain requests with, where it makes any: it closes none of its own."""
    address = f"http://127.0.0.1:{world.gateway.port}"
    return AsyncElevenLabs(base_url=address, api_key=world.gateway.key, httpx_client=http)


async def send(connection: Any, audio: bytes) -> None:
    for start in range(0, len(audio), 3200):
        chunk = base64.b64encode(audio[start : start + 3200]).decode()
        await connection.send({"audio_base_64": chunk})
        await asyncio.sleep(0.005)


async def test_speech_is_committed_at_pauses(served: World) -> None:
    connection = await client(served).speech_to_text.realtime.connect(
        {
            "model_id": SPEECH.id,
            "audio_format": AudioFormat.PCM_16000,
            "sample_rate": 16_000,
            "commit_strategy": CommitStrategy.VAD,
            "vad_silence_threshold_secs": 0.8,
            "language_code": "eng",
            "include_timestamps": True,
        }
    )
    heard = Heard(connection)
    await send(connection, go_forward_samples() + SECOND * 2)
    committed = await heard.until("committed_transcript_with_timestamps")
    await connection.close()
    assert committed["text"] == GO_FORWARD_WORDS
    assert [word["text"] for word in committed["words"]] == GO_FORWARD_WORDS.split()
    assert all(word["start"] < word["end"] and word["type"] == "word" for word in committed["words"])
    assert (await heard.until("committed_transcript"))["text"] == GO_FORWARD_WORDS
    assert await heard.until("partial_transcript")
    started = await heard.until("session_started")
    assert started["session_id"]
    assert (started["config"]["model_id"], started["config"]["sample_rate"]) == (SPEECH.id, 16_000)


async def test_speech_is_committed_by_the_client(served: World) -> None:
    connection = await client(served).speech_to_text.realtime.connect(
        {"model_id": "live", "audio_format": AudioFormat.PCM_16000, "sample_rate": 16_000}
    )
    heard = Heard(connection)
    await send(connection, go_forward_samples())
    await connection.commit()
    assert (await heard.until("committed_transcript"))["text"] == GO_FORWARD_WORDS
    await connection.close()


async def test_a_token_is_good_once(served: World) -> None:
    async with httpx.AsyncClient(timeout=60) as http:
        made = await client(served, http).tokens.single_use.create("realtime_scribe")
    options: Any = {
        "model_id": "live",
        "audio_format": AudioFormat.PCM_16000,
        "sample_rate": 16_000,
        "token": made.token,
    }
    connection = await client(served).speech_to_text.realtime.connect(options)
    heard = Heard(connection)
    await heard.until("session_started")
    await connection.close()
    refused = await client(served).speech_to_text.realtime.connect(options)
    again = Heard(refused)
    assert "is not valid" in (await again.until("auth_error"))["error"]
    await asyncio.wait_for(again.closed.wait(), DEADLINE)
    await refused.close()
    assert made.token not in served.gateway.log_path.read_text()


@pytest.mark.parametrize(
    ("query", "kind", "code"),
    [
        ({"model_id": "nonesuch"}, "invalid_request", Close.UNKNOWN_MODEL),
        ({"audio_format": "mp3"}, "invalid_request", Close.PARAMETERS),
        ({"entity_redaction": "pii"}, "invalid_request", Close.PARAMETERS),
        ({"language_code": "deu"}, "resource_exhausted", Close.NOTHING_RUNS),
    ],
)
async def test_what_cannot_be_done_is_said(
    query: dict[str, str], kind: str, code: Close, served: World
) -> None:
    address = f"ws://127.0.0.1:{served.gateway.port}{PATH}?{urlencode(query)}"
    headers = {"xi-api-key": served.gateway.key}
    async with connect(address, additional_headers=headers, proxy=None) as socket:
        told = json.loads(await asyncio.wait_for(socket.recv(), DEADLINE))
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), DEADLINE)
    assert (told["message_type"], bool(told["error"]), socket.close_code) == (kind, True, code)


async def test_a_gateway_that_leaves_says_so(own_world: MakeWorld, tmp_path: Path) -> None:
    world = own_world({"DRAIN_SECONDS": "2"})
    with live(tmp_path) as engines:
        publish(world, NOISE, engines.noise())
        address = f"ws://127.0.0.1:{world.gateway.port}{PATH}?model_id={NOISE.id}"
        seen = []
        async with connect(address, proxy=None) as socket:
            seen.append(json.loads(await asyncio.wait_for(socket.recv(), DEADLINE)))
            world.gateway.process.terminate()
            with contextlib.suppress(ConnectionClosed):
                while True:
                    seen.append(json.loads(await asyncio.wait_for(socket.recv(), DEADLINE)))
    assert [each["message_type"] for each in seen] == ["session_started", "error", "resource_exhausted"]
    assert "The session ends in" in seen[1]["error"]
    assert (socket.close_code, socket.close_reason) == (Close.GOING_AWAY, seen[2]["error"])


async def test_a_wrong_message_is_told_of_and_the_session_goes_on(served: World) -> None:
    address = f"ws://127.0.0.1:{served.gateway.port}{PATH}?model_id=live"
    headers = {"xi-api-key": served.gateway.key}
    async with connect(address, additional_headers=headers, proxy=None) as socket:
        for message in (
            "no JSON",
            '{"message_type": "other"}',
            '{"message_type": "input_audio_chunk", "audio_base_64": "?!"}',
            '{"message_type": "input_audio_chunk", "audio_base_64": "AAAA", "sample_rate": 8000}',
        ):
            await socket.send(message)
        kinds = [json.loads(await asyncio.wait_for(socket.recv(), DEADLINE)) for _ in range(5)]
    assert [each["message_type"] for each in kinds] == ["session_started"] + ["input_error"] * 4
