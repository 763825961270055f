"""Engines on loopback that speak as vLLM and Speaches do: forms, answers, streams and refusals of theirs."""

import json
from typing import Any

from aiohttp import web

from tests.conformance.gateway.scripted_engine import Answer, Received

TEXT = "Go forward. Ten <meters> & stop."
SEGMENTS = ((0.44, 1.02, " Go forward."), (61.1, 3723.4567, " Ten <meters> & stop."))
WORDS = (
    (0.44, 0.6, " Go", 0.98),
    (0.6, 1.02, " forward.", 0.9),
    (61.1, 61.5, " Ten", 0.8),
    (61.5, 3722.0, " <meters>", 0.7),
    (3722.1, 3723.4567, " & stop.", 0.6),
)
SPEAKERS = ("SPEAKER_00", "SPEAKER_01")
BROKEN = {"message": "EngineCore died", "type": "InternalServerError", "param": None, "code": 500}


async def vllm(request: web.Request, received: Received) -> web.StreamResponse:
    """`text` is JSON, srt and vtt are refused, a duration is a text, words and measures are null."""
    fields = dict(received.fields)
    wanted = fields.get("response_format", "json")
    if wanted not in ("json", "text", "verbose_json"):
        message = "Currently only support response_format: `text`, `json` or `verbose_json`"
        error = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
        return web.json_response({"error": error}, status=400)
    if fields.get("stream") == "true":
        return await _stream(request, vllm_chunks(fields))
    if wanted != "verbose_json":
        return web.json_response({"text": f" {TEXT}", "usage": {"type": "duration", "seconds": 3724}})
    segments = [_segment(number, None) for number in range(len(SEGMENTS))]
    body = {"duration": "3723.5", "language": "en", "text": TEXT, "segments": segments, "words": None}
    return web.json_response(body)


def vllm_chunks(fields: dict[str, str]) -> list[str]:
    """The data of each event, in the shape of a chat's."""
    common = {"id": "transcribe-1", "object": "transcription.chunk", "created": 1793523600, "model": "m"}
    pieces = [*(f" {word}" for word in TEXT.split()), ""]
    chunks: list[dict[str, Any]] = [
        common | {"choices": [{"delta": {"content": piece, "reasoning_content": None}}]} for piece in pieces
    ]
    chunks[0]["choices"][0]["delta"]["content"] = TEXT.split(maxsplit=1)[0]
    chunks[-1]["choices"][0] |= {"finish_reason": "stop", "stop_reason": None}
    if fields.get("stream_include_usage") == "true":
        usage = {"prompt_tokens": 14, "total_tokens": 59, "completion_tokens": 45}
        chunks.append(common | {"choices": [], "usage": usage})
    return [*map(json.dumps, chunks), "[DONE]"]


def vllm_breaking(*, after: int, ended: bool) -> Answer:
    """A stream that fails: with vLLM's event of that, or, not `ended`, without a word."""

    async def answer(request: web.Request, received: Received) -> web.StreamResponse:
        events = vllm_chunks({})[:after]
        return await _stream(request, [*events, json.dumps({"error": BROKEN}), "[DONE]"] if ended else events)

    return answer


async def vllm_of_text_alone(request: web.Request, received: Received) -> web.StreamResponse:
    """As vLLM serves models that tell no times, such as Voxtral."""
    if dict(received.fields).get("response_format") == "verbose_json":
        message = "Currently do not support verbose_json for m"
        error = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
        return web.json_response({"error": error}, status=400)
    return await vllm(request, received)


async def openais_breaking(request: web.Request, received: Received) -> web.StreamResponse:
    """A stream of OpenAI's own that dies after its first event."""
    response = await _stream(request, [json.dumps({"type": "transcript.text.delta", "delta": "Go"})])
    assert request.transport is not None
    request.transport.close()
    return response


async def speaches(request: web.Request, received: Received) -> web.StreamResponse:
    """Every format of its own, of which the gateway asks for the two of JSON; errors are FastAPI's."""
    fields = received.fields
    named = dict(fields)
    if named.get("model") == "engine-absent":
        return web.json_response({"detail": "Model 'engine-absent' is not installed locally."}, status=400)
    if named.get("stream") == "true":
        return await _stream(request, [json.dumps({"text": text.strip()}) for *_, text in SEGMENTS])
    match named.get("response_format", "json"):
        case "json":
            return web.json_response({"text": TEXT})
        case "verbose_json":
            words = ("timestamp_granularities[]", "word") in fields
            return web.json_response(_speaches_verbose(words=words, told="diarization" in named))
        case other:
            return web.Response(text=f"Speaches' own {other}")


async def speaches_in_openais_events(request: web.Request, received: Received) -> web.StreamResponse:
    """As its later versions stream."""
    deltas = [{"type": "transcript.text.delta", "delta": text} for *_, text in SEGMENTS]
    done = {"type": "transcript.text.done", "text": TEXT}
    return await _stream(request, [json.dumps(event) for event in (*deltas, done)])


def _speaches_verbose(*, words: bool, told: bool) -> dict[str, Any]:
    segments = [_segment(number, SPEAKERS[number] if told else None) for number in range(len(SEGMENTS))]
    found = [
        {"start": start, "end": end, "word": word, "probability": sure, "speaker": None}
        for start, end, word, sure in WORDS
    ]
    return {
        "task": "transcribe",
        "language": "en",
        "duration": 3723.5,
        "text": TEXT,
        "words": found if words else None,
        "segments": segments,
    }


def _segment(number: int, speaker: str | None) -> dict[str, Any]:
    start, end, text = SEGMENTS[number]
    return {
        "id": number + 1,
        "seek": 0,
        "start": start,
        "end": end,
        "text": text,
        "tokens": [50364, 1042],
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 0.7,
        "no_speech_prob": None,
        "words": None,
        "speaker": speaker,
    }


async def _stream(request: web.Request, events: list[str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    for event in events:
        await response.write(f"data: {event}\n\n".encode())
    return response
