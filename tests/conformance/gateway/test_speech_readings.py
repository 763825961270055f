"""A form, and an engine's answer to it, are read alike on the fast lane and on the ordinary route."""

import http.client
import json
import socket
from dataclasses import dataclass

import pytest
from aiohttp import web

from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway.client import BOUNDARY, FORM_TYPE, field, file, form
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant

WHISPER = Variant("whisper", "whisper-base", model_name="base")
VLLM = Variant("vllm", dialect="VLLM", word_timestamps="None")
MODEL = field("model", "whisper-base")
FORM = form(MODEL, file())
OURS = f"Content-Type: {FORM_TYPE['Content-Type']}\r\n"
TAKEN = "roundhouse_gateway_fast_lane_requests_total"
RETRIES = "roundhouse_gateway_retries_total"


@dataclass(frozen=True)
class Odd:
    id: str
    head: str
    body: bytes
    status: int


ODD = (
    Odd("a file in capitals", OURS, form(MODEL, file(name="FILE")), 400),
    Odd("another type before", f"Content-Type: application/json\r\n{OURS}", FORM, 415),
    Odd("another boundary behind", f"{OURS}Content-Type: multipart/form-data; boundary=x\r\n", FORM, 200),
    Odd(
        "a colon without quotes",
        "Content-Type: multipart/form-data; boundary=a:b\r\n",
        FORM.replace(BOUNDARY.encode(), b"a:b"),
        400,
    ),
    Odd("a type of nine kilobytes", OURS, FORM.replace(b"audio/x-wav", b"a/" + b"b" * 9000), 400),
)


def posted(world: World, head: str, body: bytes) -> tuple[int, bytes]:
    """By hand: no client sends such a head."""
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=30) as connection:
        start = (
            f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(start.encode() + body)
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            return answer.status, answer.read()


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.id)
def test_an_odd_form_is_read_alike(either_world: World, odd: Odd) -> None:
    either_world.serve(WHISPER)
    status, said = posted(either_world, odd.head, odd.body)
    assert status == odd.status, said


async def events(request: web.Request, received: scripts.Received) -> web.StreamResponse:
    return web.Response(text='data: {"x": 1}\n\n', content_type="text/event-stream")


async def broken_events(request: web.Request, received: scripts.Received) -> web.StreamResponse:
    """Breaks off between two events."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b'data: {"x": 1}\n\n')
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.mark.parametrize("answer", [events, broken_events])
def test_events_are_no_answer_that_could_be_written_anew(either_world: World, answer: scripts.Answer) -> None:
    engine = either_world.serve(VLLM)
    engine.answer = answer
    before = either_world.gateway.metric(TAKEN)
    reply = either_world.gateway.transcribe(field("model", "vllm"), field("response_format", "srt"), file())
    assert (reply.status, reply.error["code"]) == (502, "engine_failed")
    assert either_world.gateway.metric(TAKEN) - before == either_world.fast


def test_a_stream_that_nobody_asked_for_ends_with_why(either_world: World) -> None:
    engine = either_world.serve(WHISPER)
    engine.answer = broken_events
    with socket.create_connection(("127.0.0.1", either_world.gateway.port), timeout=30) as connection:
        start = (
            f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\n{OURS}Content-Length: {len(FORM)}\r\n\r\n"
        )
        connection.sendall(start.encode() + FORM)
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            with pytest.raises(http.client.IncompleteRead) as cut:
                answer.read()
    assert b'data: {"x": 1}\n\n' in cut.value.partial
    assert b"broke off" in cut.value.partial


def test_what_is_written_anew_is_200(either_world: World) -> None:
    engine = either_world.serve(VLLM)
    engine.answer = scripts.answering(201, scripts.VERBOSE)
    reply = either_world.gateway.transcribe(field("model", "vllm"), field("response_format", "srt"), file())
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; charset=utf-8")


@pytest.mark.parametrize("parts", [(MODEL, file()), (file(), MODEL)])
def test_an_engine_that_speaks_no_http_is_not_asked_again(
    either_world: World, parts: tuple[bytes, ...]
) -> None:
    engine = either_world.serve(WHISPER)
    engine.answer = scripts.raw(b"SMTP ready\r\n\r\n")
    assert either_world.gateway.transcribe(*parts).error["code"] == "engine_failed"
    assert len(engine.requests) == 1


@pytest.mark.parametrize("parts", [(MODEL, file()), (file(), MODEL)])
@pytest.mark.parametrize("start", [b"SMTP ready", b"HTTP/1.1 200 OK\r\nNo Header: x"])
def test_answers_that_nobody_can_read_are_asked_for_twice_at_most(
    either_world: World, parts: tuple[bytes, ...], start: bytes
) -> None:
    engines = [either_world.engine() for _ in range(4)]
    either_world.serve(WHISPER, *engines)
    for each in engines:
        each.answer = scripts.raw(start + b"\r\n\r\n")
    assert either_world.gateway.transcribe(*parts).error["code"] == "engine_failed"
    assert sum(len(each.requests) for each in engines) <= 2


def test_an_engine_whose_heads_the_lane_cannot_read_is_left_to_the_ordinary_route(world: World) -> None:
    engine = world.serve(WHISPER)
    said = json.dumps({"text": "heard"}).encode()
    engine.answer = scripts.raw(b"HTTP/1.1 200 OK\nContent-Type: application/json\n\n" + said)
    before, retries = world.gateway.metric(TAKEN), world.gateway.metric(RETRIES, model="whisper-base")
    for number in range(3):
        reply = world.gateway.transcribe(MODEL, file())
        assert (reply.status, reply.body) == (200, said)
        assert len(engine.requests) == 2 + number, "the first was asked for twice"
    assert world.gateway.metric(RETRIES, model="whisper-base") - retries == 1
    assert world.gateway.metric(TAKEN) == before


def test_an_answer_on_the_lane_ends_the_rest_of_a_backend(either_world: World) -> None:
    favourite = either_world.serve(Variant("favourite", spec={"selection": {"priority": 10}}))
    either_world.serve(WHISPER)

    def by_auto() -> str:
        return either_world.gateway.transcribe(field("model", "auto"), file()).headers["x-roundhouse-model"]

    favourite.stop()
    assert by_auto() == "whisper-base"
    favourite.start()
    before = either_world.gateway.metric(TAKEN)
    assert either_world.gateway.transcribe(field("model", "favourite"), file()).status == 200
    assert either_world.gateway.metric(TAKEN) - before == either_world.fast
    assert by_auto() == "favourite"
