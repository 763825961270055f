"""Requests that wait for a model to start, and what the operator reads of them meanwhile."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import openai
import pytest
from aiohttp import web

from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway.client import AUDIO, FORM_TYPE, Reply, answer_on, file, form, start_upload
from tests.conformance.gateway.client import field as text
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.gate import Gate
from tests.conformance.gateway.manifests import Variant, slice_of
from tests.conformance.gateway.scripted_engine import ScriptedEngine
from tests.support.waiting import wait_until

WHISPER = Variant("whisper", "acme/whisper", aliases=("base",))
MODEL = text("model", "acme/whisper")
Start = Callable[[Mapping[str, str]], World]


@dataclass
class Load:
    """`/internal/load`, read as the operator reads it."""

    counts: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    beats: int = 0

    def take(self, line: bytes) -> None:
        told = json.loads(line)
        if told["t"] == "beat":
            self.beats += 1
            return
        self.lines.append(told)
        self.counts[told["variant"]] = (told["inFlight"], told["held"], told["streams"])

    def wait(self, variant: str, in_flight: int = 0, held: int = 0, streams: int = 0) -> None:
        wanted = (in_flight, held, streams)

        def told() -> bool:
            assert self.counts.get(variant) == wanted, self.counts
            return True

        wait_until(told, seconds=10, what=f"{variant} has {wanted}", every=0.02)


@contextmanager
def load_of(world: World) -> Iterator[Load]:
    """Follows the load, from a whole account on, until the block ends."""
    load = Load()
    with ExitStack() as stack:
        begun = wait_until(lambda: _begin(world, stack), seconds=10, what="there is room for a reader")
        assert begun
        wire, response = begun
        assert response.headers["content-type"] == "application/x-ndjson"

        def read() -> None:
            with suppress(OSError, http.client.HTTPException):  # the gateway may end before
                while (line := response.readline()).endswith(b"\n"):
                    load.take(line)

        reader = threading.Thread(target=read)
        reader.start()
        stack.callback(reader.join)
        stack.callback(_end, wire)
        wait_until(lambda: load.beats, seconds=10, what="the account is whole", every=0.02)
        yield load


def _begin(world: World, stack: ExitStack) -> tuple[socket.socket, http.client.HTTPResponse] | None:
    """None where there are too many: those of the test before have their places until the next beat."""
    connection = http.client.HTTPConnection("127.0.0.1", world.gateway.metrics_port, timeout=60)
    stack.callback(connection.close)
    connection.request("GET", "/internal/load")
    wire: socket.socket = connection.sock
    response = connection.getresponse()
    stack.callback(response.close)
    return None if response.status == 503 else (wire, response)


def _end(wire: socket.socket) -> None:
    """Whoever reads from it reads its end, and need not wait for a beat."""
    with suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)


@contextmanager
def asking(world: World, count: int = 1, *parts: bytes) -> Iterator[list["Future[Reply]"]]:
    with ThreadPoolExecutor(count) as pool:
        yield [pool.submit(world.gateway.transcribe, *(parts or (MODEL, file()))) for _ in range(count)]


def wake(world: World, *engines: ScriptedEngine, variant: Variant = WHISPER) -> None:
    for number, each in enumerate(engines):
        piece = slice_of(variant.name, each.port, suffix=str(number))
        world.api.put("endpointslices", piece)


def send_while_taken(connection: socket.socket, content: bytes) -> int:
    """Sends until nothing is taken for a second; how much that was."""
    connection.settimeout(1)
    sent = 0
    with suppress(TimeoutError):
        while sent < len(content):
            sent += connection.send(content[sent : sent + 65536])
    return sent


@pytest.fixture
def asleep(world: World) -> World:
    """The gateway that most tests share, with a model that sleeps."""
    world.publish(WHISPER.asleep())
    world.wait_for(WHISPER.id, "available")
    return world


@pytest.mark.req("S1-10", "S1-14")
@pytest.mark.parametrize("name", ["acme/whisper", "base", "auto", ""])
def test_a_request_waits_for_the_model_to_start(asleep: World, name: str) -> None:
    assert asleep.gateway.get("/v1/models").json["data"] == []
    (listed,) = asleep.gateway.get("/v1/models?status=all").json["data"]
    assert (listed["id"], listed["status"]) == ("acme/whisper", "available")
    engine = asleep.engine()
    with load_of(asleep) as load, asking(asleep, 1, text("model", name), file()) as (reply,):
        load.wait("whisper", held=1)
        assert engine.requests == []
        wake(asleep, engine)
        assert reply.result().status == 200
        assert reply.result().headers["x-roundhouse-model"] == "acme/whisper"
        load.wait("whisper")
    (received,) = engine.requests
    assert received.complete
    assert asleep.gateway.metric("roundhouse_gateway_held_requests") == 0


def test_the_official_client_notices_nothing_but_the_time(asleep: World) -> None:
    engine = asleep.engine()
    with load_of(asleep) as load, ThreadPoolExecutor(1) as pool, asleep.gateway.openai() as client:
        answer = pool.submit(client.audio.transcriptions.create, model="acme/whisper", file=("a.wav", AUDIO))
        load.wait("whisper", held=1)
        wake(asleep, engine)
        assert answer.result().text == scripts.TEXT


@pytest.mark.req("S2-24")
def test_those_who_wait_go_in_order_and_as_the_engine_has_room(world: World) -> None:
    variant = replace(WHISPER, max_in_flight=1).asleep()
    world.publish(variant)
    world.wait_for(variant.id, "available")
    engine = world.engine()
    engine.answer = scripts.after(0.2)
    with load_of(world) as load, ThreadPoolExecutor(4) as pool:
        replies = []
        for number in range(4):
            prompt = text("prompt", str(number))
            replies.append(pool.submit(world.gateway.transcribe, MODEL, prompt, file()))
            load.wait("whisper", held=number + 1)
        wake(world, engine)
        assert [reply.result().status for reply in replies] == [200] * 4
    assert [dict(each.fields)["prompt"] for each in engine.requests] == ["0", "1", "2", "3"]
    assert max(line["inFlight"] for line in load.lines) == 1


def test_an_engine_that_is_full_all_the_same_is_asked_again(asleep: World) -> None:
    engine = asleep.engine()
    full = scripts.refusing(429, "full")
    refusals = iter([True, True, False])
    engine.admit = lambda request: full(request) if next(refusals) else None
    wake(asleep, engine)
    asleep.wait_for(WHISPER.id, "running")
    reply = asleep.gateway.transcribe(MODEL, file())
    assert reply.status == 200
    assert engine.connections == 3
    assert asleep.gateway.metric("roundhouse_gateway_hold_seconds_count", outcome="admitted") >= 2


@pytest.mark.req("S1-17")
def test_the_wait_ends_in_503(world: World) -> None:
    world.publish(replace(WHISPER, hold_seconds=1).asleep())
    world.wait_for(WHISPER.id, "available")
    reply = world.gateway.transcribe(MODEL, file())
    assert (reply.status, reply.error["code"]) == (503, "model_start_timeout")
    assert "Engine 'acme/whisper' is not currently running" in reply.error["message"]
    assert int(reply.headers["retry-after"]) > 0


@pytest.mark.req("S1-17")
def test_nobody_waits_where_that_is_not_wanted_and_the_model_is_woken(world: World) -> None:
    world.publish(replace(WHISPER, hold_seconds=0).asleep())
    world.wait_for(WHISPER.id, "available")
    with load_of(world) as load:
        reply = world.gateway.transcribe(MODEL, file())
        assert (reply.status, reply.error["code"]) == (503, "model_not_running")
        said = reply.error["message"]
        assert said.startswith("Engine 'acme/whisper' is not currently running (Idle): ")
        assert "x-should-retry" not in reply.headers
        assert "retry-after" in reply.headers
        wait_until(
            lambda: [line for line in load.lines if line["held"] == 1],
            seconds=10,
            what="it is told of as one that waits, for a moment",
            every=0.02,
        )
        load.wait("whisper")


def test_the_line_is_bounded_and_leaving_it_frees_the_place(own_world: Start) -> None:
    world = own_world({"HOLD_LIMIT_PER_VARIANT": "1"})
    world.publish(WHISPER.asleep())
    world.wait_for(WHISPER.id, "available")
    body = form(MODEL, file())
    with load_of(world) as load:
        waiting = start_upload(world.gateway.port, body, total=len(body))
        load.wait("whisper", held=1)
        reply = world.gateway.transcribe(MODEL, file())
        assert (reply.status, reply.error["code"]) == (429, "hold_full")
        assert "retry-after" in reply.headers
        waiting.close()
        load.wait("whisper")
        with asking(world) as (second,):
            load.wait("whisper", held=1)
            wake(world, world.engine())
            assert second.result().status == 200


def test_the_upload_stays_with_the_client_meanwhile(asleep: World) -> None:
    total, engine = 64 << 20, asleep.engine()
    begin = MODEL + file(b"x" * total)
    with load_of(asleep) as load:
        connection = start_upload(asleep.gateway.port, begin[:1000], total=len(begin) + len(form()))
        load.wait("whisper", held=1)
        sent = 1000 + send_while_taken(connection, begin[1000:])
        assert sent < 16 << 20, "what the sockets hold, and no more"
        wake(asleep, engine)
        connection.settimeout(30)
        connection.sendall(begin[sent:] + form())
        with connection, answer_on(connection) as answer:
            assert answer.status == 200
    (received,) = engine.requests
    assert received.file_size == total


def test_a_gateway_that_ends_tells_those_who_wait(own_world: Start) -> None:
    world = own_world({"DRAIN_SECONDS": "1"})
    world.publish(WHISPER.asleep())
    world.wait_for(WHISPER.id, "available")
    with load_of(world) as load, asking(world) as (reply,):
        load.wait("whisper", held=1)
        assert world.gateway.stop() == 0
        assert reply.result().status == 503
        assert "retry-after" in reply.result().headers


def test_the_load_is_told_on_the_cluster_s_port_alone(world: World) -> None:
    assert world.gateway.get("/internal/load").status == 404
    assert world.gateway.request("POST", "/internal/load").status == 404


def test_the_load_begins_with_the_whole_and_goes_on_with_changes(world: World) -> None:
    gate = Gate(world.serve(WHISPER))
    world.serve(Variant("other"))
    with load_of(world) as before, asking(world, 3):
        before.wait("whisper", in_flight=3)
        with load_of(world) as load:
            assert load.counts == {"whisper": (3, 0, 0)}
            assert load.lines[0]["namespace"] == "models"
            gate.open()
            load.wait("whisper")
            wait_until(lambda: load.beats > 2, seconds=10, what="it beats each second", every=0.05)
    assert len(before.lines) < 20, "many changes at once are one line"


def test_a_stream_counts_as_one_while_it_lasts(world: World) -> None:
    engine, over = world.serve(WHISPER), threading.Event()

    async def stream(request: Any, received: Any) -> Any:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        while not over.is_set():
            await response.write(b"data: {}\n\n")
            await asyncio.sleep(0.05)
        return response

    engine.answer = stream
    with load_of(world) as load, asking(world) as (reply,):
        load.wait("whisper", streams=1)
        over.set()
        assert reply.result().status == 200
        load.wait("whisper")


def test_readers_of_the_load_are_few(world: World) -> None:
    with ExitStack() as stack:

        def status() -> int:
            connection = http.client.HTTPConnection("127.0.0.1", world.gateway.metrics_port, timeout=60)
            stack.callback(connection.close)
            connection.request("GET", "/internal/load")
            response = connection.getresponse()
            stack.callback(response.close)
            return response.status

        # Readers of the tests before may be on their way out still.
        assert wait_until(lambda: {status() for _ in range(17)}, seconds=10, what="some are refused") == {
            200,
            503,
        }
    wait_until(lambda: _follows(world), seconds=10, what="who left made room")


def _follows(world: World) -> bool:
    with load_of(world) as load:
        return load.beats > 0


def test_a_request_that_the_official_client_gives_up_is_gone(asleep: World) -> None:
    with load_of(asleep) as load, asleep.gateway.openai() as client:
        seconds = 0.5
        while not load.lines:  # else it has given up before the gateway knew of it
            with pytest.raises(openai.APITimeoutError):
                client.with_options(timeout=seconds).audio.transcriptions.create(
                    model="acme/whisper", file=("a.wav", AUDIO)
                )
            seconds *= 2
        load.wait("whisper")
    assert asleep.gateway.metric("roundhouse_gateway_hold_seconds_count", outcome="left") >= 1


def test_headers_alone_are_enough_to_be_refused(asleep: World) -> None:
    """A length over the limit is refused before anything is waited for."""
    reply = asleep.gateway.request(
        "POST",
        "/v1/audio/transcriptions",
        form(MODEL, file()),
        {**FORM_TYPE, "Content-Length": str(1 << 40)},
    )
    assert reply.status == 413
