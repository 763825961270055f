"""JSON requests when an engine refuses, dies or says nothing, and when the client leaves."""

import http.client
import json
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import openai
import pytest
from aiohttp import web

from tests.conformance.gateway import scripted_engine as engines
from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.client import Reply
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant, slice_of, upstream
from tests.conformance.gateway.scripted_engine import ScriptedEngine, answering
from tests.support.ports import free_port
from tests.support.waiting import wait_until

MESSAGES: list[Any] = [{"role": "user", "content": "Where are the birds?"}]
CHAT = Variant("qwen", stage="Chat", languages=None)
OTHER = Variant("other", stage="Chat", languages=None)


@pytest.fixture
def world(either_world: World) -> World:
    return either_world


def serve(world: World, variant: Variant = CHAT, *behind: ScriptedEngine) -> ScriptedEngine:
    for each in behind:
        each.answer = scripts.chat if each.answer is engines.transcript else each.answer
    engine = world.serve(variant, *behind)
    if not behind:
        engine.answer = scripts.chat
    if world.fast:
        scripts.warm_up(world, variant.id, behind or (engine,))
    return engine


def chat(world: World, headers: Mapping[str, str] | None = None, **members: object) -> Reply:
    body = json.dumps({"model": CHAT.id, "messages": MESSAGES, **members}).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    return world.gateway.request("POST", "/v1/chat/completions", body, sent)


def backed(when: list[str] | None = None, *names: str) -> Variant:
    """A model with others that answer in its place."""
    rules = [{"model": name, **({"when": when} if when else {})} for name in names or ("other",)]
    return Variant("qwen", stage="Chat", languages=None, spec={"fallbacks": rules})


def test_connections_are_used_again(world: World) -> None:
    engine = serve(world)
    peers = set()

    async def answer(request: Any, received: Any) -> Any:
        peers.add(request.transport.get_extra_info("peername"))
        return await scripts.chat(request, received)

    engine.answer = answer
    for _ in range(10):
        assert chat(world).status == 200
        assert chat(world, stream=True).status == 200
    assert len(peers) == 1


def test_a_kept_connection_that_was_closed_meanwhile_costs_nothing(world: World) -> None:
    engine = serve(world)

    async def answer_and_leave(request: Any, received: Any) -> Any:
        response = await scripts.chat(request, received)
        await response.prepare(request)
        await response.write_eof()
        request.transport.abort()
        return response

    engine.answer = answer_and_leave
    labels = {"model": CHAT.id}
    before = world.gateway.metric("roundhouse_gateway_engine_errors_total", **labels)
    for _ in range(5):
        assert chat(world).status == 200
    assert world.gateway.metric("roundhouse_gateway_engine_errors_total", **labels) == before


@pytest.mark.parametrize("fault", [engines.hang_up, engines.raw(b"HTTP/1.1 99 What\r\n\r\n")])
def test_another_endpoint_answers_where_one_breaks_off_before_its_answer(world: World, fault: Any) -> None:
    bad, good = world.engine(), world.engine()
    bad.answer = fault
    serve(world, CHAT, bad, good)
    for _ in range(4):
        reply = chat(world)
        assert (reply.status, reply.headers["x-roundhouse-model"]) == (200, CHAT.id)
    assert bad.requests


def test_a_request_that_brings_engines_down_meets_two_of_them_at_most(world: World) -> None:
    behind = [world.engine() for _ in range(4)]
    for each in behind:
        each.answer = engines.hang_up
    serve(world, CHAT, *behind)
    reply = chat(world)
    assert (reply.status, reply.error["code"]) == (502, "engine_failed")
    assert reply.headers["x-should-retry"] == "false"
    assert (
        sum(len(each.requests) for each in behind) == len({id(each) for each in behind if each.requests}) == 2
    )
    chat(world, headers={"traceparent": "not for the fast lane"})
    assert sum(len(each.requests) for each in behind) == 4, "whether a connection was kept or not"


def test_an_endpoint_that_takes_no_connection_is_passed_over(world: World) -> None:
    world.api.put("endpointslices", slice_of("qwen", free_port(), suffix="dead"))
    engine = serve(world, CHAT, world.engine())
    for _ in range(4):
        assert chat(world).status == 200
    assert len(engine.requests) == 4


@pytest.mark.parametrize("reason", ["full", "draining", "loading"])
def test_a_refusal_goes_to_the_next_endpoint(world: World, reason: str) -> None:
    busy, free = world.engine(), world.engine()
    busy.answer = answering(429 if reason == "full" else 503, {}, {"X-Roundhouse-Reason": reason})
    serve(world, CHAT, busy, free)
    for _ in range(4):
        assert chat(world).status == 200
    assert len(free.requests) == 4


def test_an_engine_s_own_error_keeps_its_words(world: World) -> None:
    engine = serve(world)
    said = {"error": {"message": "too long", "type": "x", "param": "messages", "code": "context_length"}}
    engine.answer = answering(400, said)
    reply = chat(world)
    assert reply.status == 400
    assert reply.error == said["error"]


@pytest.mark.impatient
def test_a_silent_engine_is_given_up(world: World) -> None:
    engine = serve(world)
    engine.answer = engines.never
    reply = chat(world)
    assert (reply.status, reply.error["code"]) == (504, "engine_timeout")


def test_an_answer_that_breaks_off_is_never_whole(world: World) -> None:
    engine = serve(world)
    engine.answer = engines.hang_up_midway
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        chat(world)


HALF = scripts.frame(scripts.chunk({"content": "half"}))


@pytest.mark.parametrize("torn", [b"", HALF[:20]], ids=["between frames", "within one"])
def test_a_stream_that_breaks_off_says_so_in_its_last_frame(world: World, torn: bytes) -> None:
    engine = serve(world)
    engine.answer = scripts.streaming(*scripts.FRAMES[:2], torn, then=scripts.die)
    body = chat(world, stream=True).body
    frames = [each for each in body.split(b"\n\n") if each]
    assert b"\n\n".join(frames[:2]) + b"\n\n" == b"".join(scripts.FRAMES[:2])
    assert len(frames) == 3, "what was torn is not passed on"
    error = json.loads(frames[2].removeprefix(b"data: "))["error"]
    assert (error["code"], error["type"], error["param"]) == ("engine_failed", "upstream_error", None)


@pytest.mark.impatient
def test_a_stream_that_falls_silent_ends_with_an_error(world: World) -> None:
    engine = serve(world)
    engine.answer = scripts.streaming(*scripts.FRAMES[:2], then=scripts.fall_silent)
    with (
        world.gateway.openai().chat.completions.create(
            model=CHAT.id, messages=MESSAGES, stream=True
        ) as stream,
        pytest.raises(openai.APIError, match="broke off") as error,
    ):
        list(stream)
    assert error.value.code == "engine_failed"


@pytest.mark.req("S2-22")
def test_a_client_that_leaves_its_stream_ends_it_at_the_engine(world: World) -> None:
    engine = serve(world)
    counted = {"route": "/v1/chat/completions", "code": "499"}
    left = world.gateway.metric("roundhouse_gateway_requests_total", **counted)
    engine.answer = scripts.stream_for_ever
    with world.gateway.openai().chat.completions.create(
        model=CHAT.id, messages=MESSAGES, stream=True
    ) as stream:
        next(iter(stream))
    wait_until(lambda: engine.gone, seconds=10, what="the engine was told", every=0.01)
    labels = {"route": "/v1/chat/completions"}
    wait_until(
        lambda: world.gateway.metric("roundhouse_gateway_in_flight_requests", **labels) == 0,
        seconds=10,
        what="nothing is in flight",
        every=0.02,
    )
    wait_until(
        lambda: world.gateway.metric("roundhouse_gateway_requests_total", **counted) == left + 1,
        seconds=10,
        what="it counts as one that the client left",
        every=0.02,
    )


@pytest.mark.req("S2-22")
def test_the_engine_hears_within_a_tenth_of_a_second_that_its_client_left(world: World) -> None:
    engine = serve(world)
    engine.answer = engines.never
    body = json.dumps({"model": CHAT.id, "messages": MESSAGES}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    took = []
    for number in range(15):
        with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as connection:
            connection.sendall(head + body)
            asked = partial(lambda count: len(engine.requests) > count, number)
            wait_until(asked, seconds=10, what="the engine has the request", every=0.005)
            left = time.monotonic()
        told = partial(lambda count: len(engine.gone) > count, number)
        wait_until(told, seconds=10, what="the engine was told", every=0.005)
        took.append(engine.gone[-1] - left)
    assert median(took) < 0.1, took  # mostly it is one millisecond; some wait for the processor


@pytest.mark.req("S2-22")
def test_a_client_that_leaves_before_the_answer_ends_it_at_the_engine(world: World) -> None:
    engine = serve(world)
    engine.answer = engines.never
    body = json.dumps({"model": CHAT.id, "messages": MESSAGES}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as connection:
        connection.sendall(head + body)
        wait_until(lambda: engine.requests, seconds=10, what="the engine has the request", every=0.01)
    wait_until(lambda: engine.gone, seconds=10, what="the engine was told", every=0.01)


def test_a_reader_that_takes_nothing_holds_the_engine_back(world: World) -> None:
    engine = serve(world)
    written = 0

    async def flood(request: Any, received: Any) -> Any:
        nonlocal written
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(scripts.frame(b"x" * 65536))
            written += 65536

    engine.answer = flood
    body = json.dumps({"model": CHAT.id, "messages": MESSAGES, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as connection:
        connection.sendall(head + body)
        last = -1

        def stands() -> bool:
            nonlocal last
            before, last = last, written
            return written > 0 and before == written

        wait_until(stands, seconds=10, what="the engine is held back", every=0.3)
        assert written < 64 << 20


def test_a_fallback_answers_where_nothing_runs(world: World) -> None:
    world.publish(replace(backed(), available="False", reason="ScaledToZero", replicas=0))
    engine = serve(world, OTHER)
    reply = chat(world)
    assert (reply.status, reply.headers["x-roundhouse-model"]) == (200, "other")
    assert engine.requests[0].json["model"] == "engine-other"


@pytest.mark.parametrize(
    ("fault", "trigger"),
    [
        (answering(429, {}), "RateLimited"),
        (answering(500, {}), "Error"),
        (engines.hang_up, "Error"),
        pytest.param(engines.never, "Timeout", marks=pytest.mark.impatient),
        (answering(503, {}, {"X-Roundhouse-Reason": "draining"}), "Unavailable"),
    ],
    ids=["429", "500", "hang-up", "silence", "draining"],
)
def test_a_fallback_answers_for_what_it_is_named_for_alone(world: World, fault: Any, trigger: str) -> None:
    others = [one for one in ("Unavailable", "RateLimited", "Timeout", "Error") if one != trigger]
    engine = serve(world, backed([trigger]))
    engine.answer = fault
    serve(world, OTHER)
    assert chat(world).headers["x-roundhouse-model"] == "other"
    world.publish(backed(others))
    wait_until(lambda: chat(world).status >= 400, seconds=20, what="the rule is another", every=0.05)
    assert chat(world).headers["x-roundhouse-model"] == "qwen"


def test_the_first_model_s_error_is_told_where_no_fallback_answers(world: World) -> None:
    engine = serve(world, backed(None, "nonesuch", "other"))
    engine.answer = answering(500, {"error": {"message": "out of memory", "type": "server_error"}})
    other = serve(world, OTHER)
    other.answer = answering(503, {})
    reply = chat(world)
    assert (reply.status, reply.error["message"]) == (500, "out of memory")
    assert reply.headers["x-roundhouse-model"] == "qwen"
    assert other.requests


def test_there_is_no_fallback_after_the_first_byte(world: World) -> None:
    engine = serve(world, backed())
    engine.answer = scripts.streaming(*scripts.FRAMES[:2], then=scripts.die)
    other = serve(world, OTHER)
    reply = chat(world, stream=True)
    assert b"engine_failed" in reply.body
    assert reply.headers["x-roundhouse-model"] == "qwen"
    assert other.requests == []


def test_a_request_that_is_wrong_stays_wrong(world: World) -> None:
    engine = serve(world, backed())
    engine.answer = answering(400, {"error": {"message": "no"}})
    other = serve(world, OTHER)
    assert chat(world).status == 400
    assert other.requests == []


def test_a_dead_upstream_and_auto(world: World) -> None:
    world.api.put("engines", upstream(f"http://127.0.0.1:{free_port()}/v1"))
    dead = Variant(
        "dead",
        stage="Chat",
        languages=None,
        engine="elsewhere",
        backend="Upstream",
        dialect="OpenAI",
        spec={"selection": {"priority": 10}},
    )
    world.publish(dead)
    world.wait_for("dead", "running")
    serve(world)
    assert chat(world, model="auto").headers["x-roundhouse-model"] == CHAT.id
    assert chat(world, model="dead").error["code"] == "engine_unreachable"


def test_an_upstream_s_version_is_not_said_twice(world: World) -> None:
    engine = world.engine()
    engine.answer = scripts.chat
    world.api.put("engines", upstream(f"{engine.url}/v1"))
    world.publish(
        Variant("far", stage="Chat", languages=None, engine="elsewhere", backend="Upstream", dialect="OpenAI")
    )
    world.wait_for("far", "running")
    assert chat(world, model="far").status == 200
    assert engine.requests[0].path == "/v1/chat/completions"


def test_a_request_waits_for_a_model_that_sleeps(world: World) -> None:
    asleep = Variant("qwen", stage="Chat", languages=None, hold_seconds=30)
    world.publish(asleep.asleep())
    world.wait_for("qwen", "available")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(chat, world)
        wait_until(
            lambda: world.gateway.metric("roundhouse_gateway_held_requests", model="qwen") == 1,
            seconds=10,
            what="it is held",
            every=0.02,
        )
        serve(world, asleep)
        assert waiting.result(120).status == 200


PREFIX = {"loadBalancing": {"type": "PrefixHash", "prefixHash": {"prefixCharacters": 64}}}


def test_conversations_with_one_beginning_go_to_one_replica(world: World) -> None:
    behind = [world.engine() for _ in range(3)]
    world.serve(Variant("qwen", stage="Chat", languages=None, spec=PREFIX), *behind)
    for each in behind:
        each.answer = scripts.chat
    for number in range(12):
        opening = {"role": "system", "content": f"{number:04}" + "you are " * 20}
        for turn in range(3):
            said = [opening, {"role": "user", "content": f"turn {turn}"}]
            assert chat(world, messages=said).status == 200
    seen = [{each.json["messages"][0]["content"] for each in engine.requests} for engine in behind]
    assert sum(map(len, seen)) == 12, "each conversation was on one replica alone"
    assert sum(map(bool, seen)) > 1
