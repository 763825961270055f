"""The fast lane keeps what the ordinary routes keep: keys, limits, the log, and HTTP itself."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Mapping

import pytest
from aiohttp import web

from roundhouse_api.keys import Grant, Scope
from tests.conformance.gateway import scripted_engine as engines
from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.client import Reply, request
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.keys import issue_to
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import Received, ScriptedEngine
from tests.support.waiting import wait_for_an_early_minute, wait_until

CHAT = Variant("qwen", stage="Chat", languages=None)
BODY = json.dumps({"model": "qwen", "messages": []}).encode()
TAKEN = "roundhouse_gateway_fast_lane_requests_total"


def serve(world: World, variant: Variant = CHAT) -> ScriptedEngine:
    engine = world.serve(variant)
    engine.answer = scripts.chat
    scripts.warm_up(world, variant.id, [engine])
    return engine


def chat(world: World, key: str = "", body: bytes = BODY) -> Reply:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return request(world.gateway.port, "POST", "/v1/chat/completions", body, headers)


@pytest.fixture
def guarded(keyed: World) -> World:
    return keyed


def test_keys_and_limits_hold(guarded: World) -> None:
    wait_for_an_early_minute()  # before a connection to the engine is kept, which is not for so long
    serve(guarded)
    serve(guarded, Variant("secret", stage="Chat", languages=None))
    taken = guarded.gateway.metric(TAKEN)
    limited = issue_to(guarded, Grant(name="five", requests_per_minute=7, scopes=frozenset({Scope.CHAT})))
    # Two were counted as the key was waited for.
    answers = [chat(guarded, limited) for _ in range(9)]
    good = [each for each in answers if each.status == 200]
    assert 5 <= len(good) <= 7
    assert guarded.gateway.metric(TAKEN) == taken + len(good)
    left = [int(each.headers["x-ratelimit-remaining-requests"]) for each in good]
    assert left == list(range(left[0], -1, -1))
    assert answers[-1].error["code"] == "rate_limit_exceeded"
    elsewhere = issue_to(guarded, Grant(name="embeds", scopes=frozenset({Scope.EMBED})))
    assert chat(guarded, elsewhere).error["code"] == "insufficient_scope"
    bound = issue_to(guarded, Grant(name="bound", models=("qwen",)))
    assert chat(guarded, bound).status == 200
    refused = chat(guarded, bound, json.dumps({"model": "secret", "messages": []}).encode())
    assert refused.error["code"] == "model_not_allowed"
    assert chat(guarded, "rh_nobody_" + "0" * 40).error["code"] == "invalid_api_key"
    assert chat(guarded).error["code"] == "missing_api_key"


def test_requests_at_once_are_limited(guarded: World) -> None:
    engine = serve(guarded)
    one = issue_to(guarded, Grant(name="one", max_concurrent=1))
    engine.answer = engines.never
    with socket.create_connection(("127.0.0.1", guarded.gateway.port), timeout=60) as connection:
        connection.sendall(wire(BODY, f"Authorization: Bearer {one}"))
        wait_until(lambda: engine.requests, seconds=10, what="it is under way", every=0.01)
        assert chat(guarded, one).error["code"] == "concurrency_limit_exceeded"
    wait_until(lambda: engine.gone, seconds=10, what="the engine was told", every=0.01)
    engine.answer = scripts.chat
    wait_until(lambda: chat(guarded, one).status == 200, seconds=20, what="its place is free", every=0.01)

    async def leave_once(asked: web.Request, received: Received) -> web.StreamResponse:
        engine.answer = scripts.chat
        return await engines.hang_up(asked, received)

    engine.answer = leave_once
    answers = [
        chat(guarded, one) for _ in range(2)
    ]  # the first is handed to the ordinary routes, place and all
    assert [each.status for each in answers] == [200, 200]


def test_the_log_has_its_line(guarded: World) -> None:
    serve(guarded)
    reply = chat(guarded, guarded.gateway.key)
    asked = reply.headers["x-request-id"]
    wait_until(
        lambda: [line for line in guarded.gateway.log() if line.get("request_id") == asked],
        seconds=10,
        what="the line",
        every=0.02,
    )
    (line,) = [line for line in guarded.gateway.log() if line.get("request_id") == asked]
    assert line["message"] == "POST /v1/chat/completions 200"
    assert (line["model"], line["status"], line["upload_bytes"]) == ("qwen", 200, len(BODY))
    assert (line["input_tokens"], line["output_tokens"]) == (7, 3)
    assert line["key_id"]
    assert line["seconds"] >= line["first_byte_seconds"] > 0


def wire(body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST /v1/chat/completions HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answers(connection: socket.socket, count: int) -> list[bytes]:
    """The heads of so many whole answers, by their lengths."""
    heads: list[bytes] = []
    data = b""
    while len(heads) < count:
        head, end, rest = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) if end else 0
        if end and len(rest) >= length:
            heads.append(head)
            data = rest[length:]
            continue
        piece = connection.recv(65536)
        assert piece, f"closed after {heads!r} {data!r}"
        data += piece
    assert data == b""
    return heads


def test_requests_that_come_together_are_answered_in_order(world: World) -> None:
    serve(world)
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as connection:
        ids = [f"id-{number}" for number in range(4)]
        connection.sendall(b"".join(wire(BODY, f"X-Request-Id: {each}") for each in ids))
        heads = answers(connection, 4)
        assert [each in head.decode() for each, head in zip(ids, heads, strict=True)] == [True] * 4
        connection.sendall(wire(BODY) + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + wire(BODY))
        assert [head.split()[1] for head in answers(connection, 3)] == [b"200"] * 3


@pytest.mark.parametrize("cut", [10, len(wire(BODY)) - len(BODY), len(wire(BODY)) - 5])
def test_a_request_that_comes_in_pieces(world: World, cut: int) -> None:
    serve(world)
    whole = wire(BODY)
    for pause in (0.0, 0.3):  # within and past what the lane waits for
        with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as connection:
            connection.sendall(whole[:cut])
            time.sleep(pause)
            connection.sendall(whole[cut:])
            assert answers(connection, 1)[0].startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("headers", "version"), [(["Connection: close"], "1.1"), ([], "1.0")])
def test_who_wants_no_further_answer_gets_none(world: World, headers: list[str], version: str) -> None:
    serve(world)
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as connection:
        connection.sendall(wire(BODY, *headers, version=version))
        assert b"connection: close" in answers(connection, 1)[0].lower()
        assert connection.recv(1) == b""


@pytest.mark.impatient
def test_a_body_that_never_comes_is_not_waited_for_for_ever(world: World) -> None:
    serve(world)
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as connection:
        connection.sendall(wire(BODY)[:-5])
        assert answers(connection, 1)[0].startswith(b"HTTP/1.1 408")


def test_a_request_under_way_is_finished_in_a_drain(
    own_world: Callable[[Mapping[str, str]], World],
) -> None:
    world = own_world({"DRAIN_SECONDS": "20"})
    engine = serve(world)

    async def late(asked: web.Request, received: Received) -> web.StreamResponse:
        await asyncio.sleep(1)
        return await scripts.chat(asked, received)

    engine.answer = late
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as connection:
        connection.sendall(wire(BODY))
        wait_until(lambda: engine.requests, seconds=10, what="it is under way", every=0.01)
        world.gateway.process.terminate()
        head = answers(connection, 1)[0]
        assert head.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in head.lower()
    assert world.gateway.process.wait(60) == 0


def test_what_the_drain_does_not_wait_for_is_told(own_world: Callable[[Mapping[str, str]], World]) -> None:
    world = own_world({"DRAIN_SECONDS": "1", "ENGINE_IDLE_SECONDS": "30"})
    engine = serve(world)
    engine.answer = engines.never
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as connection:
        connection.sendall(wire(BODY))
        wait_until(lambda: engine.requests, seconds=10, what="it is under way", every=0.01)
        world.gateway.process.terminate()
        assert answers(connection, 1)[0].startswith(b"HTTP/1.1 503")
    assert world.gateway.process.wait(60) == 0
