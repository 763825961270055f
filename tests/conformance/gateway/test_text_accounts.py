"""JSON requests are counted and told of alike, whichever way they take inside, and however they end."""

import json
import socket
from dataclasses import replace

import pytest

from roundhouse_api.keys import Grant
from tests.conformance.gateway import scripted_engine as engines
from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.client import Reply, field, file
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.keys import issue_to
from tests.conformance.gateway.manifests import Variant
from tests.support.waiting import wait_until

CHAT = Variant("qwen", stage="Chat", languages=None)
EMBED = Variant("embedder", stage="Embed", languages=None)
JSON = {"Content-Type": "application/json"}
SPENT = scripts.frame({**scripts.chunk({"content": "on"}), "usage": scripts.USAGE})


@pytest.fixture
def world(either_world: World) -> World:
    return either_world


def tokens(world: World, model: Variant) -> float:
    return world.gateway.metric("roundhouse_gateway_tokens_total", model=model.id, kind="input")


def wait_for_tokens(world: World, model: Variant, count: float) -> None:
    wait_until(lambda: tokens(world, model) == count, seconds=30, what=f"{count} are counted", every=0.02)


def warm(world: World, *behind: engines.ScriptedEngine) -> None:
    if world.fast:
        scripts.warm_up(world, CHAT.id, behind)


def refusals(world: World, model: str, code: int) -> float:
    return world.gateway.metric("roundhouse_gateway_requests_total", model=model, code=str(code))


def ask(world: World, **members: object) -> Reply:
    body = json.dumps({"messages": [], **members}).encode()
    return world.gateway.request("POST", "/v1/chat/completions", body, JSON)


def test_refusals_of_a_model_that_is_known_are_counted_to_it(world: World) -> None:
    stopped = Variant("stopped", aliases=("still",), stage="Chat", languages=None, available="False")
    silent = Variant("silent", available="False")
    for variant in (stopped, silent):
        world.publish(replace(variant, reason="Stopped", replicas=0))
    world.serve(CHAT)
    gated = {"response_format": {"type": "json_object"}}
    replies = [
        (ask(world, model="still"), "stopped", 503),
        (world.gateway.transcribe(field("model", "silent"), file()), "silent", 503),
        (ask(world, model=CHAT.id, **gated), CHAT.id, 400),
        (ask(world, model="silent"), "silent", 400),
    ]
    for reply, model, code in replies:
        assert (reply.status, reply.headers["x-roundhouse-model"]) == (code, model)
        assert refusals(world, model, code) >= 1
    nobody = ask(world, model="nobody")
    assert (nobody.status, "x-roundhouse-model" in nobody.headers) == (404, False)
    assert refusals(world, "unknown", 404) >= 1
    assert refusals(world, "nobody", 404) == 0


def test_a_key_hears_of_no_model_that_it_may_not_use(keyed: World) -> None:
    keyed.publish(replace(CHAT, available="False", reason="Stopped", replicas=0))
    keyed.wait_for(CHAT.id, "available")
    key = issue_to(keyed, Grant(name="elsewhere", models=("other",)))
    headers = {**JSON, "Authorization": f"Bearer {key}"}
    body = json.dumps({"model": CHAT.id, "messages": []}).encode()
    reply = keyed.gateway.request("POST", "/v1/chat/completions", body, headers)
    assert (reply.status, "x-roundhouse-model" in reply.headers) == (403, False)


def test_what_a_stream_had_used_before_it_broke_off_is_counted(world: World) -> None:
    engine = world.serve(CHAT)
    warm(world, engine)
    engine.answer = scripts.streaming(SPENT, then=scripts.die)
    before = tokens(world, CHAT)
    body = json.dumps({"model": CHAT.id, "messages": [], "stream": True}).encode()
    assert b"engine_failed" in world.gateway.request("POST", "/v1/chat/completions", body, JSON).body
    wait_for_tokens(world, CHAT, before + 7)


def test_what_a_stream_had_used_before_its_client_left_is_counted(world: World) -> None:
    engine = world.serve(CHAT)
    warm(world, engine)
    engine.answer = scripts.streaming(SPENT, then=scripts.fall_silent)
    before = tokens(world, CHAT)
    body = json.dumps({"model": CHAT.id, "messages": [], "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        seen = b""
        while b"total_tokens" not in seen:
            seen += connection.recv(65536)
    wait_for_tokens(world, CHAT, before + 7)


def test_vectors_that_were_changed_are_counted_too(world: World) -> None:
    engine = world.serve(EMBED)
    engine.answer = scripts.embeddings(knows_base64=False)
    before = tokens(world, EMBED)
    body = json.dumps({"model": EMBED.id, "input": ["a"] * 2000, "encoding_format": "base64"}).encode()
    for _ in range(2):  # the second on a connection that was kept
        assert world.gateway.request("POST", "/v1/embeddings", body, JSON).status == 200
    wait_for_tokens(world, EMBED, before + 14)


def test_a_request_that_is_sent_again_is_the_same_request(world: World) -> None:
    first, second = world.engine(), world.engine()
    world.serve(CHAT, first, second)
    for each in (first, second):
        each.answer = scripts.chat
    warm(world, first, second)
    for bad, good in ((first, second), (second, first)):
        bad.answer, good.answer = engines.hang_up, scripts.chat
        for each in (bad, good):
            each.requests.clear()

        def met(bad: engines.ScriptedEngine = bad, good: engines.ScriptedEngine = good) -> bool:
            body = json.dumps({"model": CHAT.id, "messages": []}).encode()
            reply = world.gateway.request("POST", "/v1/chat/completions", body, JSON)
            assert reply.status == 200
            assert good.requests[-1].headers["x-request-id"] == reply.headers["x-request-id"]
            return bool(bad.requests)

        wait_until(met, seconds=30, what="it met the engine that breaks off", every=0.01)
        ids = {each.headers["x-request-id"] for each in good.requests}
        assert bad.requests[-1].headers["x-request-id"] in ids
