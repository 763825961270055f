"""Answers of the JSON routes held against OpenAI's published schemas: clients forgive what these do not."""

import json

import pytest

from tests.conformance.gateway import scripted_engine as engines
from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.test_text import CHAT, EMBED, MESSAGES, post
from tests.support.openai_schema import assert_valid

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def test_chat_and_completions(world: World) -> None:
    world.serve(CHAT).answer = scripts.chat
    asked = {"model": CHAT.id, "messages": MESSAGES}
    for members in ({}, {"tools": [TOOL]}):
        reply = post(world, "/v1/chat/completions", {**asked, **members})
        assert_valid("CreateChatCompletionResponse", reply.json)
    body = post(world, "/v1/chat/completions", {**asked, "stream": True}).body
    frames = [each.removeprefix(b"data: ") for each in body.split(b"\n\n") if each]
    assert frames.pop() == b"[DONE]"
    for each in frames:
        assert_valid("CreateChatCompletionStreamResponse", json.loads(each))
    text = post(world, "/v1/completions", {"model": CHAT.id, "prompt": "The birds"})
    assert_valid("CreateCompletionResponse", text.json)


@pytest.mark.parametrize("knows_base64", [True, False])
def test_embeddings(world: World, knows_base64: bool) -> None:
    world.serve(EMBED).answer = scripts.embeddings(knows_base64=knows_base64)
    reply = post(world, "/v1/embeddings", {"model": EMBED.id, "input": ["one", "two"]})
    assert_valid("CreateEmbeddingResponse", reply.json)


def test_errors(world: World) -> None:
    engine = world.serve(CHAT)
    broken = world.serve(Variant("broken", stage="Chat", languages=None))
    broken.answer = engines.answering(500, {"error": "out of memory"})
    engine.answer = scripts.streaming(*scripts.FRAMES[:2], then=scripts.die)
    for body in (b"{", b'{"model":"nonesuch","messages":[]}', b'{"model":"broken","messages":[]}'):
        assert_valid("ErrorResponse", post(world, "/v1/chat/completions", body).json)
    stream = post(world, "/v1/chat/completions", {"model": CHAT.id, "messages": [], "stream": True}).body
    assert_valid("ErrorResponse", json.loads(stream.rstrip().rpartition(b"data: ")[2]))
