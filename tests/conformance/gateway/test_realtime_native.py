"""Realtime sessions through the gateway, in the protocol that engines speak, and every way to end them."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from roundhouse_api.keys import Grant, Scope
from roundhouse_api.realtime import PATH, Close, SessionBegin, SessionEnding
from tests.conformance.engine.running import Engine
from tests.conformance.engine.streaming import DEADLINE, Stream, go_forward_samples, streaming
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.keys import issue_to
from tests.conformance.gateway.live import (
    NOISE,
    SPEECH,
    Live,
    guarded_speech,
    live,
    publish,
    until_all_places,
)
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Variant
from tests.support.recordings import GO_FORWARD_WORDS
from tests.support.waiting import eventually, wait_until

SECOND = bytes(32_000)
MODEL = {"model": SPEECH.id}
MakeWorld = Callable[[Mapping[str, str]], World]


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """What says `sound`, for tests that leave it as it is."""
    with live(tmp_path_factory.mktemp("noise")) as made:
        yield made.noise(ROUNDHOUSE_SESSIONS="4")


@pytest.fixture(scope="module")
def speaking(
    loop_thread: LoopThread, noise: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, Engine]]:
    """A gateway that asks for keys, before pocketsphinx and an engine that says `sound`."""
    with guarded_speech(loop_thread, tmp_path_factory.mktemp("native")) as (world, engines):
        publish(world, NOISE, noise)
        yield world, engines.started[0]


@pytest.fixture
def served(speaking: tuple[World, Engine], noise: Engine) -> World:
    """With every place free: sessions of the test before may have theirs a moment longer."""
    world, sphinx = speaking
    wait_until(lambda: held(sphinx) + held(noise) == 0, seconds=60, what="all places are free", every=0.02)
    return world


def bearer(world: World) -> dict[str, str]:
    return {"Authorization": f"Bearer {world.gateway.key}"}


async def refusal(world: World, query: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Stream:
    """A session that is ended before it begins, its close frame read."""
    headers = bearer(world) if headers is None else headers
    async with streaming(world.gateway.port, query, headers=headers) as stream:
        await stream.rest()
    assert stream.kinds == ["error"]
    assert stream.socket.close_reason
    return stream


@pytest.mark.req("S1-9", "S0-17", "S0-19")
async def test_speech_is_heard_while_it_is_spoken(served: World) -> None:
    async with streaming(served.gateway.port, {"model": "live"}, headers=bearer(served)) as stream:
        begin = await stream.next()
        assert isinstance(begin, SessionBegin)
        assert begin.model == SPEECH.id, "an alias leads to the model, which goes by its public name"
        response = stream.socket.response
        assert response is not None
        assert response.headers["X-Roundhouse-Model"] == SPEECH.id
        assert response.headers["X-Request-Id"]
        await stream.send(go_forward_samples() + SECOND * 2)
        final = await stream.until("transcript.final")
        assert final.text == GO_FORWARD_WORDS
        assert "transcript.partial" in stream.kinds
        await stream.say("end")
        assert (await stream.rest())[0] == Close.NORMAL
    wait_until(lambda: logged(served) == [Close.NORMAL], seconds=10, what="it is logged by how it ended")
    seconds = served.gateway.metric("roundhouse_gateway_audio_seconds_total", model=SPEECH.id)
    assert seconds == pytest.approx(len(go_forward_samples() + SECOND * 2) / 32_000, abs=0.01)


@pytest.mark.parametrize(("said", "counted"), [(1000, 1000), (1001, 1001), (4999, 499), (None, 499)])
async def test_a_session_counts_as_what_its_client_ends_it_with(
    served: World, said: int | None, counted: int
) -> None:
    before = len(logged(served))
    async with streaming(served.gateway.port, {"model": "live"}, headers=bearer(served)) as stream:
        await stream.next()
        if said is None:
            stream.socket.transport.abort()
        else:
            await stream.socket.close(code=said)
    wait_until(lambda: logged(served)[before:] == [counted], seconds=10, what=f"it is logged as {counted}")


def logged(world: World) -> list[int]:
    return [line["status"] for line in world.gateway.log() if line.get("route") == PATH]


async def test_without_a_model_auto_takes_one_that_streams(served: World) -> None:
    async with streaming(served.gateway.port, {"language": "en-GB"}, headers=bearer(served)) as stream:
        begin = await stream.next()
        assert isinstance(begin, SessionBegin)
        assert (begin.model, begin.language) == (SPEECH.id, "en")


@pytest.mark.req("S0-17")
@pytest.mark.parametrize(
    ("query", "code", "says"),
    [
        ({"model": "nonesuch"}, Close.UNKNOWN_MODEL, "Unknown model: 'nonesuch'. Available models: "),
        ({**MODEL, "language": "zz"}, Close.PARAMETERS, "does not support language 'zz'"),
        ({**MODEL, "sample_rate": "7"}, Close.PARAMETERS, "sample_rate must be a whole number"),
        ({**MODEL, "samplerate": "8000"}, Close.PARAMETERS, "There is no parameter 'samplerate'"),
    ],
)
async def test_what_is_wrong_is_said_in_the_close_frame(
    query: dict[str, str], code: Close, says: str, served: World
) -> None:
    stream = await refusal(served, query)
    assert stream.socket.close_code == code
    assert says in (stream.socket.close_reason or "")


async def test_without_a_good_key_nobody_gets_a_session(served: World) -> None:
    for headers in ({}, {"Authorization": "Bearer rh_wrong"}):
        assert (await refusal(served, MODEL, headers)).socket.close_code == Close.UNAUTHENTICATED
    listener = issue_to(served, Grant(scopes=frozenset({Scope.CHAT})))
    stream = await refusal(served, MODEL, {"Authorization": f"Bearer {listener}"})
    assert stream.socket.close_code == Close.FORBIDDEN
    elsewhere = issue_to(served, Grant(models=("other",)))
    stream = await refusal(served, MODEL, {"Authorization": f"Bearer {elsewhere}"})
    assert stream.socket.close_code == Close.FORBIDDEN


async def begun(world: World, query: Mapping[str, str], **options: Any) -> ClientConnection:
    """The connection of a session that began. One before it may keep its place a moment longer."""
    async with asyncio.timeout(DEADLINE):
        while True:
            async with streaming(world.gateway.port, query, **options) as stream:
                if (await stream.next()).type == "session.begin":
                    return stream.socket
                await stream.rest()
            assert stream.socket.close_code == Close.LIMIT, stream.socket.close_reason


async def test_a_key_comes_in_each_way_that_clients_have(served: World) -> None:
    key = served.gateway.key
    offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{key}")]
    for headers in (bearer(served), {"xi-api-key": key}, {"X-API-Key": key}):
        await begun(served, MODEL, headers=headers)
    socket = await begun(served, MODEL, subprotocols=offered)
    assert socket.subprotocol == "realtime", "the key is not echoed"
    await begun(served, {**MODEL, "api_key": key})
    assert key.rsplit("_", 1)[1] not in served.gateway.log_path.read_text()


async def test_a_key_has_so_many_sessions_at_once(served: World) -> None:
    key = issue_to(served, Grant(max_concurrent=1))
    headers = {"Authorization": f"Bearer {key}"}
    async with streaming(served.gateway.port, MODEL, headers=headers) as stream:
        assert (await stream.next()).type == "session.begin"
        assert (await refusal(served, MODEL, headers)).socket.close_code == Close.LIMIT


async def test_every_place_taken_is_a_limit(served: World) -> None:
    headers, port = bearer(served), served.gateway.port
    async with streaming(port, MODEL, headers=headers) as one, streaming(port, MODEL, headers=headers) as two:
        for each in (one, two):
            assert (await each.next()).type == "session.begin"
        stream = await refusal(served, MODEL)
        assert stream.socket.close_code == Close.LIMIT
        assert "Every place" in (stream.socket.close_reason or "")


async def test_a_path_without_websockets_is_not_found(served: World) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{served.gateway.port}/v1/nothing", proxy=None)
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body or b"")["error"]["code"] == "unknown_url"


async def test_a_frame_that_is_too_large_ends_the_session(served: World) -> None:
    async with streaming(served.gateway.port, {"model": NOISE.id}, headers=bearer(served)) as stream:
        await stream.next()
        await stream.socket.send(bytes((1 << 20) + 1))
        assert (await stream.rest())[0] == Close.TOO_LARGE


async def test_lag_reaches_the_client(served: World) -> None:
    query = {"model": NOISE.id, "prompt": "sleep 2"}
    async with streaming(served.gateway.port, query, headers=bearer(served)) as stream:
        speech = go_forward_samples()[16_000:64_000]
        await stream.send_on(speech, pace=1)
        assert (await stream.rest())[0] == Close.LAG
    assert "warning" in stream.kinds


@pytest.mark.req("S0-18")
async def test_a_model_that_cannot_stream_has_one_that_stands_in(served: World) -> None:
    batch = Variant("whisper", spec={"realtimeVariantRef": {"name": NOISE.name}})
    bare = Variant("bare")
    for variant in (batch, bare):
        served.serve(variant)
    async with streaming(served.gateway.port, {"model": "whisper"}, headers=bearer(served)) as stream:
        begin = await stream.next()
        assert isinstance(begin, SessionBegin)
        assert begin.model == NOISE.id
    stream = await refusal(served, {"model": "bare"})
    assert stream.socket.close_code == Close.PARAMETERS
    assert "has no realtime interface" in (stream.socket.close_reason or "")


async def test_sessions_go_to_the_least_loaded_and_count_as_streams(world: World, engines: Live) -> None:
    one, two = engines.noise(), engines.noise()
    publish(world, NOISE, one, two)
    async with AsyncExitStack() as open_streams:
        for _ in range(4):
            stream = await open_streams.enter_async_context(
                streaming(world.gateway.port, {"model": NOISE.id})
            )
            await stream.next()
        assert [held(one), held(two)] == [2, 2]
        assert streams(world) == 4
        assert (await refusal(world, {"model": NOISE.id}, {})).socket.close_code == Close.LIMIT

    async def free() -> bool:
        return [held(one), held(two)] == [0, 0] and streams(world) == 0

    await eventually(free, seconds=30, what="all places are given back")


def streams(world: World) -> int:
    """Of all models, as `/internal/load` tells an operator that asks just now."""
    address = f"http://127.0.0.1:{world.gateway.metrics_port}/internal/load"
    found = 0
    with urlopen(address, timeout=30) as answer:
        for line in answer:
            told = json.loads(line)
            if told["t"] == "beat":
                return found
            found += told["streams"]
    raise AssertionError("the report ended without a beat")


def held(engine: Engine) -> int:
    return int(engine.metric("sessions_in_use"))


async def test_an_engine_that_dies_ends_its_sessions_with_a_reason(world: World, engines: Live) -> None:
    noise = engines.noise()
    publish(world, NOISE, noise)
    async with streaming(world.gateway.port, {"model": NOISE.id}) as stream:
        await stream.next()
        noise.process.kill()
        code, reason = await stream.rest()
    assert (code, stream.kinds[-1]) == (Close.FAILED, "error")
    assert reason == "Engine 'noise' broke off the session."
    again = await refusal(world, {"model": NOISE.id}, {})
    assert again.socket.close_code == Close.NOTHING_RUNS


async def test_an_engine_that_leaves_is_heard_of(world: World, engines: Live) -> None:
    noise = engines.noise(ROUNDHOUSE_DRAIN_SECONDS="2")
    publish(world, NOISE, noise)
    async with streaming(world.gateway.port, {"model": NOISE.id}) as stream:
        await stream.next()
        noise.terminate()
        assert isinstance(await stream.until("session.ending"), SessionEnding)
        assert (await stream.rest())[0] == Close.GOING_AWAY


async def test_a_gateway_that_leaves_says_so_and_when(own_world: MakeWorld, noise: Engine) -> None:
    world = own_world({"DRAIN_SECONDS": "8"})
    publish(world, NOISE, noise)
    port = world.gateway.port
    async with streaming(port, {"model": NOISE.id}) as stays, streaming(port, {"model": NOISE.id}) as leaves:
        await stays.next()
        await leaves.next()
        world.gateway.process.terminate()
        ending = await leaves.until("session.ending")
        assert isinstance(ending, SessionEnding)
        assert 0 < ending.deadline_ms <= 8000
        await leaves.say("end")
        assert (await leaves.rest())[0] == Close.NORMAL
        assert (await stays.rest())[0] == Close.GOING_AWAY
    assert world.gateway.process.wait(60) == 0


async def test_silent_and_endless_clients_are_ended(own_world: MakeWorld, noise: Engine) -> None:
    world = own_world({"REALTIME_IDLE_SECONDS": "3", "REALTIME_SESSION_SECONDS": "4"})
    publish(world, NOISE, noise)
    port = world.gateway.port
    async with (
        streaming(port, {"model": NOISE.id}) as silent,
        streaming(port, {"model": NOISE.id}) as endless,
    ):
        await endless.send_on(SECOND, pace=4)
        ends = [await each.rest() for each in (silent, endless)]
    assert ends[0] == (Close.IDLE, "Nothing was sent for 3 seconds.")
    assert (ends[1][0], bool(re.match("A session lasts 4 seconds", ends[1][1]))) == (Close.IDLE, True)


async def test_a_session_wakes_a_model_that_sleeps(world: World, noise: Engine) -> None:
    until_all_places(noise)
    world.publish(NOISE.asleep())
    world.wait_for(NOISE.id, "available")

    let_in = asyncio.Event()

    async def begin() -> tuple[str, str]:
        async with streaming(world.gateway.port, {"model": NOISE.id}) as stream:
            let_in.set()
            await stream.send(go_forward_samples())
            await stream.say("flush")
            return (await stream.next()).type, (await stream.until("transcript.final")).type

    waiting = asyncio.create_task(begin())

    async def is_held() -> bool:
        return world.gateway.metric("roundhouse_gateway_held_requests", model=NOISE.id) == 1

    await eventually(is_held, seconds=20, what="it waits")
    await asyncio.wait_for(let_in.wait(), DEADLINE)  # clients give up a handshake that takes long
    await asyncio.to_thread(publish, world, NOISE, noise)
    assert await asyncio.wait_for(waiting, DEADLINE) == ("session.begin", "transcript.final")
