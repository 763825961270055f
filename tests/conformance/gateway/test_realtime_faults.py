"""Realtime sessions beside what hangs, dawdles or thinks again."""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect

from roundhouse_api.realtime import Close
from roundhouse_gateway.realtime.turns import HANDSHAKES_AT_ONCE
from tests.conformance.engine.streaming import DEADLINE, streaming
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.live import NOISE, live, publish
from tests.conformance.gateway.manifests import Variant
from tests.support.ports import free_port
from tests.support.waiting import eventually

MakeWorld = Callable[[Mapping[str, str]], World]
HUNG = Variant("hung", streaming="Chunked", interfaces=("Batch", "Realtime"))
COMPLETED = "conversation.item.input_audio_transcription.completed"


def noise(seconds: int) -> bytes:
    """16 kHz."""
    return np.random.default_rng(7).normal(0, 9000, 16_000).astype("<i2").tobytes() * seconds


def talking(world: World, model: str) -> connect:
    """An OpenAI client's."""
    return connect(f"ws://127.0.0.1:{world.gateway.port}/v1/realtime?model={model}", proxy=None)


async def say(socket: ClientConnection, kind: str, **members: object) -> None:
    await socket.send(json.dumps({"type": kind, **members}))


async def append(socket: ClientConnection, audio: bytes) -> None:
    await say(socket, "input_audio_buffer.append", audio=base64.b64encode(audio).decode())


async def by_hand(socket: ClientConnection) -> None:
    """The client says where an utterance ends."""
    heard = {"format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": None}
    await say(socket, "session.update", session={"type": "transcription", "audio": {"input": heard}})


async def until(socket: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        told: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), DEADLINE))
        assert told["type"] != "error", told
        if told["type"] == kind:
            return told


async def test_what_was_cleared_is_in_no_transcript(world: World, tmp_path: Path) -> None:
    """Not even what the engine has heard of it by then: it cuts what is longer than 30 s."""
    with live(tmp_path) as engines:
        publish(world, NOISE, engines.noise())
        async with talking(world, "noise") as socket:
            await by_hand(socket)
            await append(socket, noise(31))
            await say(socket, "input_audio_buffer.commit")
            assert (await until(socket, COMPLETED))["transcript"] == "sound sound"
            await append(socket, noise(31))
            await say(socket, "input_audio_buffer.clear")
            await append(socket, noise(1))
            await say(socket, "input_audio_buffer.commit")
            assert (await until(socket, COMPLETED))["transcript"] == "sound"


async def test_an_engine_that_accepts_and_says_nothing_holds_up_no_other_models_sessions(
    world: World, tmp_path: Path
) -> None:
    silent: list[asyncio.StreamWriter] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.append(writer)

    async def refused() -> int:
        async with streaming(world.gateway.port, {"model": HUNG.id}) as stream:
            return (await stream.rest())[0]

    async def taken() -> bool:
        return len(silent) == HANDSHAKES_AT_ONCE

    with live(tmp_path) as engines:
        publish(world, NOISE, engines.noise())
        listening = await asyncio.start_server(accept, "127.0.0.1", 0)
        world.run(HUNG, listening.sockets[0].getsockname()[1])
        waiting = [asyncio.create_task(refused()) for _ in range(2 * HANDSHAKES_AT_ONCE)]
        await eventually(taken, seconds=60, what="as many handshakes as may be are under way")
        async with streaming(world.gateway.port, {"model": NOISE.id}) as stream:
            assert (await stream.next()).type == "session.begin"
            assert not any(each.done() for each in waiting)
        assert set(await asyncio.wait_for(asyncio.gather(*waiting), DEADLINE)) == {Close.NOTHING_RUNS}
        assert len(silent) == HANDSHAKES_AT_ONCE, "nobody tries it again who has waited for it"
        for each in silent:
            each.close()
        listening.close()


async def test_of_several_that_take_no_session_the_one_that_was_asked_for_is_told_of(world: World) -> None:
    realtime: dict[str, Any] = {"streaming": "Chunked", "interfaces": ("Batch", "Realtime")}
    asked = Variant("asked", spec={"fallbacks": [{"model": "instead"}]}, **realtime)
    for each in (asked, Variant("instead", **realtime)):
        world.run(each, free_port())
    async with streaming(world.gateway.port, {"model": asked.id}) as stream:
        said = "No endpoint of engine 'asked' takes connections just now."
        assert await stream.rest() == (Close.NOTHING_RUNS, said)
    for name in ("asked", "instead"):
        assert world.gateway.metric("roundhouse_gateway_ejections_total", model=name) == 1


async def test_an_engine_sends_nobody_elsewhere(world: World) -> None:
    """Nor to what only the gateway may reach."""
    elsewhere = world.engine()
    behind = world.serve(HUNG)
    at = f"{elsewhere.url}/v1/audio/transcriptions/stream"

    def moved(_: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": at})

    behind.admit = moved
    async with streaming(world.gateway.port, {"model": HUNG.id}) as stream:
        said = "Engine 'hung' answered 307 instead of taking the session."
        assert await stream.rest() == (Close.FAILED, said)
    assert (len(behind.requests), elsewhere.requests) == (1, [])
