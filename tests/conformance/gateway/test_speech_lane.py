"""Small forms take the fast lane, and an engine gets of them what the ordinary route would send."""

import json
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from hashlib import sha256

import aiohttp
import pytest

from roundhouse_api.keys import Grant, Scope
from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway import text_engine
from tests.conformance.gateway.client import AUDIO, BOUNDARY, FORM_TYPE, field, file, form, start_upload
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.dialect_engines import vllm
from tests.conformance.gateway.keys import issue_to
from tests.conformance.gateway.manifests import Variant, slice_of
from tests.support.ports import free_port
from tests.support.waiting import wait_until

WHISPER = Variant("whisper", "whisper-base", model_name="base", aliases=("small",))
MODEL = field("model", "whisper-base")
TAKEN = "roundhouse_gateway_fast_lane_requests_total"


def taken(world: World) -> float:
    return world.gateway.metric(TAKEN)


def errors(world: World, reason: str) -> float:
    labels = {"model": "whisper-base", "reason": reason}
    return world.gateway.metric("roundhouse_gateway_engine_errors_total", **labels)


@pytest.mark.parametrize(
    ("parts", "fields"),
    [
        ((MODEL, file()), {}),
        ((file(), MODEL), {}),
        (
            (
                field("response_format", "verbose_json"),
                MODEL,
                file(),
                field("timestamp_granularities[]", "word"),
            ),
            {"response_format": "verbose_json", "timestamp_granularities[]": "word"},
        ),
        (
            (field("model", "small"), field("response_format", "text"), field("tier", "balanced"), file()),
            {"response_format": "text"},
        ),
        (
            (MODEL, field("language", "en-GB"), field("prompt", ""), file(filename="Gr\u00fc\u00dfe 1.wav")),
            {"language": "en-GB"},
        ),
        (
            (MODEL, field("prompt", "Hello"), file(), field("temperature", "0.2"), field("seed", "7")),
            {"prompt": "Hello", "temperature": "0.2", "seed": "7"},
        ),
    ],
)
def test_the_engine_gets_the_same_form_and_the_client_the_same_answer(
    either_world: World, parts: tuple[bytes, ...], fields: dict[str, str]
) -> None:
    world = either_world
    engine = world.serve(WHISPER)
    before = taken(world)
    replies = [world.gateway.transcribe(*parts) for _ in range(3)]
    assert [each.status for each in replies] == [200] * 3
    assert taken(world) == before + (3 if world.fast else 0)
    assert len({each.body for each in replies}) == 1
    assert {each.headers["x-roundhouse-model"] for each in replies} == {"whisper-base"}
    for received, reply in zip(engine.requests, replies, strict=True):
        assert received.headers["x-request-id"] == reply.headers["x-request-id"]
        assert received.headers["via"]
        assert BOUNDARY not in received.headers["content-type"]
        assert (received.fields[0], received.file_type) == (("model", "base"), "audio/x-wav")
        assert (received.file_size, received.file_sha256) == (len(AUDIO), sha256(AUDIO).hexdigest())
        assert received.filename == ("Gr\u00fc\u00dfe 1.wav" if "language" in fields else "speech.wav")
        assert sorted(received.fields) == sorted({"model": "base", **fields}.items())


def test_what_is_not_for_the_lane_goes_by_the_ordinary_route(world: World) -> None:
    world.serve(WHISPER)
    before = taken(world)
    assert world.gateway.transcribe(MODEL, file(AUDIO * 20)).status == 200
    assert world.gateway.transcribe(field("model", "auto"), file()).status == 200
    assert world.gateway.transcribe(MODEL, field("stream", "true"), file()).status == 200
    assert world.gateway.transcribe(MODEL, field("temperature", "7"), file()).error["param"] == "temperature"
    assert world.gateway.transcribe(MODEL, file(b"")).error["param"] == "file"
    assert world.gateway.transcribe(MODEL, file(), headers={"X-Odd": "1", "Via": "1.1 other"}).status == 200
    unquoted = MODEL.replace(b'"model"', b"model")
    assert world.gateway.transcribe(unquoted, file()).status == 200
    assert taken(world) == before


def test_a_file_that_holds_what_looks_like_a_boundary_stays_one_file(world: World) -> None:
    engine = world.serve(WHISPER)
    assert world.gateway.transcribe(MODEL, file()).status == 200
    ours = engine.requests[0].headers["content-type"].partition("boundary=")[2]
    fake = f'a\r\n--{ours}\r\nContent-Disposition: form-data; name="model"\r\n\r\nother\r\n--{ours}--\r\n'
    for content in (fake.encode(), f"a\r\n-- {BOUNDARY}\r\n--{BOUNDARY[:-1]}\r\n".encode()):
        assert world.gateway.transcribe(MODEL, file(content)).status == 200
        received = engine.requests[-1]
        assert (received.fields, received.file_size) == ([("model", "base")], len(content))


async def test_clients_of_other_makes_take_it(world: World) -> None:
    """OpenAI's has another boundary each time; aiohttp's names the type before the disposition."""
    engine = world.serve(WHISPER)
    before = taken(world)
    for _ in range(2):
        said = world.gateway.openai().audio.transcriptions.create(
            model="whisper-base", file=("a.wav", AUDIO), temperature=0.2, language="en"
        )
        assert said.text
    data = aiohttp.FormData({"model": "whisper-base"})
    data.add_field("file", AUDIO, filename="a.wav", content_type="audio/wav")
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{world.gateway.base_url}/audio/transcriptions", data=data) as answer,
    ):
        assert answer.status == 200, await answer.text()
    assert taken(world) == before + 3
    assert dict(engine.requests[0].fields) == {"model": "base", "temperature": "0.2", "language": "en"}


def test_what_is_written_anew_is_so_on_the_lane(world: World) -> None:
    engine = world.serve(Variant("vllm", dialect="VLLM", word_timestamps="None"))
    engine.answer = vllm
    before = taken(world)
    for name in ("json", "text", "srt", "verbose_json"):
        reply = world.gateway.transcribe(field("model", "vllm"), field("response_format", name), file())
        assert reply.status == 200, reply.body
        assert reply.headers["content-type"].startswith("application/json") == name.endswith("json")
    assert taken(world) == before + 4
    assert {dict(each.fields)["response_format"] for each in engine.requests} == {"json", "verbose_json"}


def test_an_answer_that_breaks_off_before_it_is_written_anew_is_not_asked_for_again(world: World) -> None:
    engine = world.serve(Variant("vllm", dialect="VLLM", word_timestamps="None"))
    engine.answer = scripts.hang_up_midway
    before = taken(world)
    reply = world.gateway.transcribe(field("model", "vllm"), field("response_format", "text"), file())
    assert reply.error["code"] == "engine_failed"
    assert (len(engine.requests), taken(world)) == (1, before + 1)


@pytest.mark.parametrize("parts", [(MODEL, file()), (file(), MODEL)])
def test_an_engine_that_leaves_a_kept_connection_is_asked_once_more(
    world: World, parts: tuple[bytes, ...]
) -> None:
    engine = world.serve(WHISPER)
    assert world.gateway.transcribe(*parts).status == 200
    engine.answer = scripts.hang_up
    before = errors(world, "broken")
    assert world.gateway.transcribe(*parts).error["code"] == "engine_failed"
    assert len(engine.requests) == 3, "on the connection that was kept, and on a new one"
    assert errors(world, "broken") == before + 1
    engine.answer = scripts.transcript
    assert world.gateway.transcribe(*parts).status == 200


def test_a_form_that_brings_engines_down_meets_two_of_them(world: World) -> None:
    engines = [world.engine() for _ in range(4)]
    world.serve(WHISPER, *engines)

    def counted() -> float:
        """How many of them broke off for certain: one that was left on a kept connection may have had to."""
        for each in engines:
            each.answer = scripts.hang_up
            each.requests.clear()
        before = errors(world, "broken")
        assert world.gateway.transcribe(MODEL, file()).error["code"] == "engine_failed"
        assert sum(len(each.requests) for each in engines) == 2
        return errors(world, "broken") - before

    def counted_with_connections_kept() -> float:
        for each in engines:
            each.answer = scripts.transcript
        wait_until(
            lambda: (
                world.gateway.transcribe(MODEL, file()).status == 200
                and all(each.requests for each in engines)
            ),
            seconds=20,
            what="each engine was asked",
            every=0.01,
        )
        return counted()

    assert counted() == 2
    wait_until(
        lambda: counted_with_connections_kept() == 1, seconds=60, what="a connection was kept", every=0.01
    )


def test_an_endpoint_that_takes_no_connection_is_tried_once(world: World) -> None:
    engine = world.engine()
    world.api.put("endpointslices", slice_of("whisper", free_port(), suffix="dead"))
    world.serve(WHISPER, engine)
    before, retries = errors(world, "unreachable"), world.gateway.metric("roundhouse_gateway_retries_total")
    for _ in range(4):
        assert world.gateway.transcribe(MODEL, file()).status == 200
    tried = errors(world, "unreachable") - before
    assert world.gateway.metric("roundhouse_gateway_retries_total") - retries == tried >= 1
    assert len(engine.requests) == 4


def test_the_log_and_the_metrics_have_what_was_heard(keyed: World) -> None:
    keyed.serve(WHISPER)
    labels = {"model": "whisper-base"}
    before = keyed.gateway.metric("roundhouse_gateway_audio_seconds_total", **labels), taken(keyed)
    reply = keyed.gateway.transcribe(MODEL, file())
    assert taken(keyed) == before[1] + 1
    wait_until(
        lambda: keyed.gateway.metric("roundhouse_gateway_audio_seconds_total", **labels) == before[0] + 3,
        seconds=30,
        what="what was heard is counted",
        every=0.02,
    )
    asked = reply.headers["x-request-id"]

    def lines() -> list[dict[str, object]]:
        return [line for line in keyed.gateway.log() if line.get("request_id") == asked]

    wait_until(lines, seconds=10, what="the line", every=0.02)
    (line,) = lines()
    assert line["message"] == "POST /v1/audio/transcriptions 200"
    assert (line["route"], line["audio_seconds"]) == ("/v1/audio/transcriptions", 3)
    assert line["upload_bytes"] == len(form(MODEL, file()))
    elsewhere = issue_to(keyed, Grant(name="chats", scopes=frozenset({Scope.CHAT})))
    keyed.gateway.key = elsewhere
    assert keyed.gateway.transcribe(MODEL, file()).error["code"] == "insufficient_scope"


def on_the_lane(received: scripts.Received) -> bool:
    """A form that may have to be repeated by its client is announced, and that of the lane is not."""
    return "expect" not in received.headers


def test_a_client_that_leaves_takes_its_request_along(keyed: World) -> None:
    engine = keyed.serve(WHISPER)
    keyed.gateway.key = key = issue_to(keyed, Grant(name="one", max_concurrent=1))

    def goes_by_the_lane() -> bool:
        before = taken(keyed)
        return keyed.gateway.transcribe(MODEL, file()).status == 200 and taken(keyed) == before + 1

    wait_until(goes_by_the_lane, seconds=20, what="the place of its key is free", every=0.01)
    engine.requests.clear()
    route = {"route": "/v1/audio/transcriptions"}
    in_flight = "roundhouse_gateway_in_flight_requests"
    engine.answer = scripts.never
    body = form(MODEL, file())
    head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}"
    head += f"\r\nContent-Type: {FORM_TYPE['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", keyed.gateway.port), timeout=60) as connection:
        connection.sendall(head.encode() + body)
        wait_until(lambda: engine.requests, seconds=20, what="it is under way", every=0.01)
        assert on_the_lane(engine.requests[0])
        assert keyed.gateway.metric(in_flight, **route) == 1
    wait_until(lambda: engine.gone, seconds=20, what="the engine was told", every=0.01)
    wait_until(
        lambda: keyed.gateway.metric(in_flight, **route) == 0, seconds=20, what="it is over", every=0.01
    )
    engine.answer = scripts.transcript
    wait_until(goes_by_the_lane, seconds=20, what="its place is free again", every=0.01)


def test_short_forms_fill_a_room_of_their_own(own_world: Callable[[Mapping[str, str]], World]) -> None:
    world = own_world({"JSON_ROOM_BYTES": "400000", "JSON_LIMIT_BYTES": "400000"})
    speech, chat = world.serve(WHISPER), world.serve(Variant("qwen", stage="Chat", languages=None))
    speech.answer, chat.answer = scripts.never, text_engine.chat
    body = form(MODEL, file(b"x" * 60_000))
    with ExitStack() as leaving:
        for _ in range(7):
            leaving.enter_context(start_upload(world.gateway.port, body, total=len(body)))
        wait_until(lambda: len(speech.requests) == 7, seconds=20, what="all are under way", every=0.01)
        assert sum(map(on_the_lane, speech.requests)) == 1, "the others go the way of longer ones"
        asked = {"model": "qwen", "messages": [{"role": "user", "content": "x" * 390_000}]}
        reply = world.gateway.request(
            "POST", "/v1/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        assert reply.status == 200, reply.body
    wait_until(lambda: len(speech.gone) == 7, seconds=20, what="all have left", every=0.01)
    speech.answer = scripts.transcript

    def takes_the_lane() -> bool:
        before = taken(world)
        assert world.gateway.transcribe(MODEL, file(b"x" * 90_000)).status == 200
        return taken(world) == before + 1

    wait_until(takes_the_lane, seconds=20, what="the room is free again", every=0.01)


def test_an_endpoint_that_refuses_a_form_is_asked_after_the_others(world: World) -> None:
    full, free = engines = world.engine(), world.engine()
    world.serve(WHISPER, *engines)
    full.admit = scripts.refusing(429, "full")
    retried = "roundhouse_gateway_retries_total"
    before, retries = errors(world, "full"), world.gateway.metric(retried, model="whisper-base")
    for _ in range(12):
        assert world.gateway.transcribe(MODEL, file()).status == 200
    refused = full.connections
    assert refused >= 1
    assert free.connections == 12
    assert errors(world, "full") - before == refused
    assert world.gateway.metric(retried, model="whisper-base") - retries == refused
