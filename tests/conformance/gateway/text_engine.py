"""What a scripted engine says to JSON requests: small true answers as OpenAI and rerankers shape them."""

import asyncio
import base64
import hashlib
import json
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.scripted_engine import Answer, Received, ScriptedEngine
from tests.support.waiting import wait_until

DIMENSIONS = 16
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
WORDS = ["Bo", "dega", " Bay"]


def warm_up(world: World, model: str, engines: Sequence[ScriptedEngine]) -> None:
    """Has the gateway keep a connection to each of them: requests that find one take the fast lane."""
    answers = [each.answer for each in engines]
    for each in engines:
        each.answer = chat
    body = json.dumps({"model": model, "messages": []}).encode()

    def asked() -> bool:
        world.gateway.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        return all(each.requests for each in engines)

    wait_until(asked, seconds=20, what="each engine was asked", every=0.01)
    for each, answer in zip(engines, answers, strict=True):
        each.requests.clear()
        each.answer = answer


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """A normalised sum of the words' own directions: texts that share words are near each other."""
    total = [0.0] * dimensions
    for word in text.lower().split():
        digest = hashlib.sha256(word.encode()).digest()
        for place in range(dimensions):
            total[place] += digest[place % 32] / 127.5 - 1
    norm = math.sqrt(sum(each * each for each in total)) or 1.0
    return [struct.unpack("<f", struct.pack("<f", each / norm))[0] for each in total]


def likeness(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(vector(one), vector(other), strict=True))


def embeddings(*, knows_base64: bool = True) -> Answer:
    """`knows_base64` off: as engines are that pass over `encoding_format`."""

    async def answer(request: web.Request, received: Received) -> web.StreamResponse:
        asked = received.json
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        made = [vector(str(text), asked.get("dimensions") or DIMENSIONS) for text in texts]
        packed = knows_base64 and asked.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _packed(each) if packed else each}
            for index, each in enumerate(made)
        ]
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        return web.json_response({"object": "list", "data": data, "model": asked["model"], "usage": usage})

    return answer


def _packed(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def chunk(delta: dict[str, Any], finish: str | None = None, **members: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1793523600, "model": "engine"}
    return {**head, "choices": choices, **members}


def frame(data: object) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


FRAMES = [
    frame(chunk({"role": "assistant", "content": ""})),
    *(frame(chunk({"content": word})) for word in WORDS),
    frame(chunk({}, "stop")),
    frame({**chunk({}), "choices": [], "usage": USAGE}),
    frame(b"[DONE]"),
]


async def chat(request: web.Request, received: Received) -> web.StreamResponse:
    """What a well-behaved engine says: whole, or as a stream."""
    asked = received.json
    if asked.get("stream"):
        return await stream(request, FRAMES)
    if request.path.endswith("/v1/completions"):
        choice: dict[str, Any] = {
            "index": 0,
            "text": "".join(WORDS),
            "finish_reason": "stop",
            "logprobs": None,
        }
        kind = "text_completion"
    else:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(WORDS), "refusal": None}
        if tools := asked.get("tools"):
            called = {"name": tools[0]["function"]["name"], "arguments": '{"city": "Paris"}'}
            message |= {
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": called}],
            }
        finish = "tool_calls" if asked.get("tools") else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        kind = "chat.completion"
    return web.json_response(
        {
            "id": "chatcmpl-1",
            "object": kind,
            "created": 1793523600,
            "model": asked["model"],
            "choices": [choice],
            "usage": USAGE,
        }
    )


async def stream(request: web.Request, frames: list[bytes], *, pause: float = 0.0) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    for each in frames:
        await response.write(each)
        if pause:
            await asyncio.sleep(pause)
    return response


def streaming(*frames: bytes, then: Callable[[web.Request], None] | None = None) -> Answer:
    """These bytes as a stream, and then something that an engine should not do."""

    async def answer(request: web.Request, received: Received) -> web.StreamResponse:
        response = await stream(request, list(frames))
        if then is not None:
            then(request)
            await asyncio.Event().wait()
        return response

    return answer


def die(request: web.Request) -> None:
    """In the middle of an answer."""
    assert request.transport is not None
    request.transport.abort()


def fall_silent(request: web.Request) -> None:
    """Says nothing more, and stays."""


async def stream_for_ever(request: web.Request, received: Received) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    while True:
        await response.write(frame(chunk({"content": "on "})))
        await asyncio.sleep(0.01)


async def rerank(request: web.Request, received: Received) -> web.StreamResponse:
    """As Jina has it, unsorted and with all documents, as some engines answer."""
    asked = received.json
    results = [
        {"index": index, "document": {"text": text}, "relevance_score": likeness(asked["query"], text)}
        for index, text in enumerate(asked["documents"])
    ]
    usage = {"total_tokens": 12, "prompt_tokens": 12}
    return web.json_response({"model": asked["model"], "results": results, "usage": usage})


async def tei_rerank(request: web.Request, received: Received) -> web.StreamResponse:
    """As text-embeddings-inference has it."""
    if request.path != "/rerank":
        return web.json_response({"error": "no such route"}, status=404)
    asked = received.json
    ranked = [
        {"index": index, "score": likeness(asked["query"], text)} for index, text in enumerate(asked["texts"])
    ]
    return web.json_response(sorted(ranked, key=lambda each: each["score"], reverse=True))
