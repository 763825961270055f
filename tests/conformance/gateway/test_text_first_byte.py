"""An engine that has said no more than the head of its answer may be replaced: nothing has been sent."""

import json

import pytest
from aiohttp import web

from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.client import Reply
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import Answer, Received, ScriptedEngine

CHAT = Variant("qwen", stage="Chat", languages=None)


def chat(world: World, *, stream: bool) -> Reply:
    body = json.dumps({"model": CHAT.id, "messages": [], "stream": stream}).encode()
    return world.gateway.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})


async def head_alone(request: web.Request, received: Received) -> web.StreamResponse:
    """Dies with the head of an answer sent."""
    response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "100"})
    await response.prepare(request)
    assert request.transport is not None
    request.transport.close()
    return response


DEATHS = pytest.mark.parametrize(
    ("death", "stream"),
    [(head_alone, False), (scripts.streaming(then=scripts.die), True)],
    ids=["whole", "stream"],
)


def serve(world: World, *behind: ScriptedEngine) -> None:
    world.serve(CHAT, *behind)
    if world.fast:
        scripts.warm_up(world, CHAT.id, behind)


@DEATHS
def test_another_endpoint_answers(either_world: World, death: Answer, *, stream: bool) -> None:
    bad, good = either_world.engine(), either_world.engine()
    bad.answer, good.answer = death, scripts.chat
    serve(either_world, bad, good)
    for _ in range(4):
        reply = chat(either_world, stream=stream)
        assert reply.status == 200
        assert reply.body.count(b"Bodega Bay" if not stream else b"[DONE]") == 1
        assert b"engine_failed" not in reply.body
    assert bad.requests


@DEATHS
def test_where_there_is_none_the_client_is_told_by_the_status(
    either_world: World, death: Answer, *, stream: bool
) -> None:
    only = either_world.engine()
    only.answer = death
    serve(either_world, only)
    reply = chat(either_world, stream=stream)
    assert (reply.status, reply.error["code"]) == (502, "engine_failed")
