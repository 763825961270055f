"""What becomes of a request when an engine refuses, fails, dies or says nothing."""

import http.client
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway.client import AUDIO, answer_on, file, form, start_upload
from tests.conformance.gateway.client import field as text
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant, slice_of, upstream
from tests.conformance.gateway.rests import most_tries
from tests.conformance.gateway.scripted_engine import ScriptedEngine
from tests.support.ports import free_port
from tests.support.waiting import wait_until

WHISPER = Variant("whisper", "whisper-base", model_name="base")
MODEL = text("model", "whisper-base")


@pytest.fixture
def world(either_world: World) -> World:
    """Small forms take the fast lane where there is one."""
    return either_world


def test_an_endpoint_that_takes_no_connection_is_passed_over(world: World) -> None:
    engine = world.engine()
    world.api.put("endpointslices", slice_of("whisper", free_port(), suffix="dead"))
    world.serve(WHISPER, engine)
    for _ in range(4):
        assert world.gateway.transcribe(MODEL, file()).status == 200
    assert len(engine.requests) == 4


def test_when_no_endpoint_takes_a_connection(world: World) -> None:
    engine = world.serve(WHISPER)
    engine.stop()
    reply = world.gateway.transcribe(MODEL, file())
    assert reply.status == 503
    assert reply.error["code"] == "engine_unreachable"
    assert reply.headers["retry-after"] == "1"
    assert reply.headers["x-roundhouse-model"] == "whisper-base"


def serve_with_a_dead_favourite(world: World) -> ScriptedEngine:
    """An upstream that `auto` would choose, at an address where nobody listens, and a live engine."""
    world.api.put("engines", upstream(f"http://127.0.0.1:{free_port()}/v1"))
    selection = {"selection": {"priority": 10}}
    variant = Variant("dead", engine="elsewhere", backend="Upstream", dialect="OpenAI", spec=selection)
    world.api.put("modelvariants", variant.manifest())
    world.wait_for("dead", "running")
    return world.serve(WHISPER)


def unreachable_count(world: World) -> float:
    labels = {"model": "dead", "reason": "unreachable"}
    return world.gateway.metric("roundhouse_gateway_engine_errors_total", **labels)


@pytest.mark.parametrize("parts", [(text("model", "auto"), file()), (file(),)])
def test_auto_goes_on_to_the_next_model_where_one_takes_no_connection(
    world: World, parts: tuple[bytes, ...]
) -> None:
    engine = serve_with_a_dead_favourite(world)
    before, begun = unreachable_count(world), time.monotonic()
    for _ in range(3):
        reply = world.gateway.transcribe(*parts)
        assert (reply.status, reply.headers["x-roundhouse-model"]) == (200, "whisper-base")
    assert {(received.model, received.file_size) for received in engine.requests} == {("base", len(AUDIO))}
    tried = unreachable_count(world) - before
    assert 1 <= tried <= most_tries(time.monotonic() - begun), "not each request waits for it"


def test_a_dead_model_asked_for_by_name_is_not_replaced(world: World) -> None:
    engine = serve_with_a_dead_favourite(world)
    before, begun = unreachable_count(world), time.monotonic()
    for _ in range(2):
        reply = world.gateway.transcribe(text("model", "dead"), file())
        assert (reply.error["code"], reply.headers["x-roundhouse-model"]) == ("engine_unreachable", "dead")
    assert unreachable_count(world) == before + 2, "it is tried each time"
    assert engine.requests == []
    assert world.gateway.transcribe(file()).status == 200
    learnt = unreachable_count(world) == before + 2
    assert learnt or most_tries(time.monotonic() - begun) > 1, "`auto` has not learnt of it"


def test_auto_still_tries_what_rests_where_nothing_else_is_left(world: World) -> None:
    engine = serve_with_a_dead_favourite(world)
    engine.stop()
    before = unreachable_count(world)
    for _ in range(2):
        assert world.gateway.transcribe(file()).error["code"] == "engine_unreachable"
    assert unreachable_count(world) >= before + 2


@pytest.mark.parametrize("reason", ["full", "draining", "loading"])
def test_a_refusal_before_the_body_goes_to_the_next_endpoint(world: World, reason: str) -> None:
    busy, free = world.engine(), world.engine()
    busy.admit = scripts.refusing(429 if reason == "full" else 503, reason)
    world.serve(WHISPER, busy, free)
    for _ in range(4):
        assert world.gateway.transcribe(MODEL, file()).status == 200
    assert busy.requests == []
    assert busy.connections > 0
    assert len(free.requests) == 4


def test_a_refusal_of_all_endpoints_reaches_the_client_as_it_is(world: World) -> None:
    engine = world.engine()
    engine.admit = scripts.refusing(429, "full")
    world.serve(WHISPER, engine)
    labels = {"model": "whisper-base", "reason": "full"}
    before = world.gateway.metric("roundhouse_gateway_engine_errors_total", **labels)
    reply = world.gateway.transcribe(MODEL, file())
    assert reply.status == 429
    assert world.gateway.metric("roundhouse_gateway_engine_errors_total", **labels) == before + 1
    assert reply.headers["retry-after"] == "2"
    assert reply.error == {
        "message": "The engine is full.",
        "type": "rate_limit",
        "param": None,
        "code": "full",
    }
    assert not [name for name in reply.headers if name == "x-roundhouse-reason"]


@pytest.mark.parametrize("form_of", [lambda: (MODEL, file()), lambda: (file(), MODEL)])
def test_an_engine_that_dies_before_its_answer(
    world: World, form_of: Callable[[], tuple[bytes, ...]]
) -> None:
    engine = world.serve(WHISPER)
    engine.answer = scripts.hang_up
    reply = world.gateway.transcribe(*form_of())
    assert reply.status == 502
    assert (reply.error["type"], reply.error["code"]) == ("upstream_error", "engine_failed")
    assert reply.headers["x-should-retry"] == "false"
    assert len(engine.requests) == 1


def test_a_form_that_was_stored_is_sent_again_to_the_next_endpoint(world: World) -> None:
    engines = [world.engine(), world.engine()]
    engines[0].answer = scripts.hang_up
    world.serve(WHISPER, *engines)
    for _ in range(4):
        assert world.gateway.transcribe(file(), MODEL).status == 200
    assert len(engines[1].requests) == 4
    assert engines[0].requests


def test_a_form_that_brings_engines_down_does_not_meet_all_of_them(world: World) -> None:
    engines = [world.engine() for _ in range(4)]
    for engine in engines:
        engine.answer = scripts.hang_up
    world.serve(WHISPER, *engines)
    assert world.gateway.transcribe(file(), MODEL).error["code"] == "engine_failed"
    assert sum(len(engine.requests) for engine in engines) == 2


def test_an_answer_may_begin_while_the_upload_goes_on(world: World) -> None:
    engine = world.serve(Variant("whisper", dialect="OpenAI"))
    engine.read = False
    engine.answer = scripts.answer_while_reading
    with start_upload(world.gateway.port, text("model", "whisper"), total=3_000_000) as connection:
        connection.sendall(file(b"x" * 500_000)[:-2])
        with answer_on(connection) as response:
            assert response.status == 200
            rest = 3_000_000 - len(text("model", "whisper")) - len(file(b"x" * 500_000)[:-2])
            connection.sendall(b"y" * (rest - len(form()) - 2) + b"\r\n" + form())
            assert json.loads(response.read())["text"] == "read all"


def test_an_engine_that_dies_in_the_middle_of_its_answer_is_not_mistaken_for_one_that_ended(
    world: World,
) -> None:
    world.serve(WHISPER).answer = scripts.hang_up_midway
    with pytest.raises(http.client.IncompleteRead):
        world.gateway.transcribe(MODEL, file())


@pytest.mark.impatient
def test_an_engine_that_says_nothing(world: World) -> None:
    world.serve(WHISPER).answer = scripts.never
    reply = world.gateway.transcribe(MODEL, file())
    assert reply.status == 504
    assert reply.error["code"] == "engine_timeout"
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.impatient
def test_an_engine_that_reads_nothing(world: World) -> None:
    engine = world.serve(WHISPER)
    engine.read = False
    engine.answer = scripts.never
    assert world.gateway.transcribe(MODEL, file(AUDIO * 1000)).status == 504


def test_a_slow_engine_is_waited_for(world: World) -> None:
    world.serve(WHISPER).answer = scripts.after(1.5)
    assert world.gateway.transcribe(MODEL, file()).status == 200


SHAPED = {"error": {"message": "not audio", "type": "invalid_request_error", "param": "file", "code": "bad"}}


@pytest.mark.parametrize(
    ("status", "body", "expected_status", "message", "kind"),
    [
        (400, SHAPED, 400, "not audio", "invalid_request_error"),
        (400, {"error": {"message": "half"}}, 400, "half", "invalid_request_error"),
        (400, {"error": "only words"}, 400, "only words", "invalid_request_error"),
        (400, {"object": "error", "message": "bare", "code": 400}, 400, "bare", "invalid_request_error"),
        (422, {"detail": "no such thing"}, 422, "no such thing", "invalid_request_error"),
        (500, "Traceback: secret", 500, "The engine answered 500 Internal Server Error.", "upstream_error"),
        (503, "x" * 100_000, 503, "The engine answered 503 Service Unavailable.", "upstream_error"),
        (404, "<html>nginx</html>", 502, "Engine 'whisper-base' refused", "upstream_error"),
        (401, {"detail": "key"}, 502, "Engine 'whisper-base' refused", "upstream_error"),
        (401, SHAPED, 502, "Engine 'whisper-base' refused", "upstream_error"),
        (302, "", 502, "Engine 'whisper-base' refused the gateway's request: 302.", "upstream_error"),
        (304, "", 502, "Engine 'whisper-base' refused", "upstream_error"),
        (600, "", 502, "Engine 'whisper-base' refused", "upstream_error"),
    ],
)
def test_an_engines_own_errors(  # noqa: PLR0917 - a table's columns
    world: World, status: int, body: object, expected_status: int, message: str, kind: str
) -> None:
    world.serve(WHISPER).answer = scripts.answering(status, body)
    reply = world.gateway.transcribe(MODEL, file())
    assert reply.status == expected_status
    assert message in reply.error["message"]
    assert reply.error["type"] == kind
    assert reply.json["detail"] == reply.error["message"]
    if status == 400 and body is SHAPED:
        assert reply.error == SHAPED["error"], "what is in shape passes as it is"


def test_an_early_error_reaches_a_client_that_is_still_sending(world: World) -> None:
    engine = world.serve(Variant("whisper", dialect="OpenAI"))
    engine.read = False
    engine.answer = scripts.answering(400, SHAPED)
    reply = world.gateway.transcribe(text("model", "whisper"), file(AUDIO * 1000))
    assert (reply.status, reply.error) == (400, SHAPED["error"])


def test_an_early_answer_reaches_a_client_that_is_still_sending(world: World) -> None:
    engine = world.serve(Variant("whisper", dialect="OpenAI"))
    engine.read = False
    engine.answer = scripts.answering(200, {"text": "heard enough"})
    reply = world.gateway.transcribe(text("model", "whisper"), file(AUDIO * 1000))
    assert (reply.status, reply.json) == (200, {"text": "heard enough"})


def test_an_engine_that_changes_the_protocol(world: World) -> None:
    world.serve(WHISPER).answer = scripts.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nhello")
    assert world.gateway.transcribe(MODEL, file()).error["code"] == "engine_failed"


def test_headers_that_cannot_be_sent_on_are_left_out(world: World) -> None:
    world.serve(WHISPER).answer = scripts.raw(
        b"HTTP/1.1 200 OK\r\nX-Odd: a\x01b\r\nX-Even: kept\r\nContent-Length: 2\r\n\r\n{}"
    )
    reply = world.gateway.transcribe(MODEL, file())
    assert (reply.status, reply.body) == (200, b"{}")
    assert reply.headers["x-even"] == "kept"
    assert "x-odd" not in reply.headers


@pytest.mark.parametrize("form_of", [lambda: (MODEL, file()), lambda: (file(), MODEL)])
@pytest.mark.parametrize("how", ["draining", "loading", "gone", "breaks off"])
def test_a_successor_that_is_heard_of_a_moment_later_gets_the_request(
    world: World, how: str, form_of: Callable[[], tuple[bytes, ...]]
) -> None:
    """A pod was told to leave before the gateway heard of the pod that takes its place."""
    old, new = world.engine(), world.engine()
    world.serve(WHISPER, old)
    match how:
        case "gone":
            old.stop()
        case "breaks off":
            old.admit = scripts.breaking_off
        case _:
            old.admit = scripts.refusing(503, how)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(world.gateway.transcribe, *form_of())
        wait_until(
            lambda: old.connections or how == "gone", seconds=30, what="the old one was asked", every=0.02
        )
        assert not running.done()
        world.api.put("endpointslices", slice_of("whisper", new.port, suffix="new"))
        assert running.result().status == 200
    assert old.requests == []
    assert len(new.requests) == 1


def test_of_full_and_leaving_endpoints_the_full_one_has_the_word(world: World) -> None:
    """It is there in a moment; that the other leaves is no news for a client."""
    full, leaving = world.engine(), world.engine()
    full.admit = scripts.refusing(429, "full")
    leaving.admit = scripts.refusing(503, "draining")
    world.serve(WHISPER, full, leaving)
    for _ in range(4):
        assert world.gateway.transcribe(MODEL, file()).status == 429


def test_auto_goes_on_to_the_next_model_where_one_is_leaving(world: World) -> None:
    leaving, other = world.engine(), world.engine()
    leaving.admit = scripts.refusing(503, "draining")
    best = Variant("best", model_name="best", spec={"selection": {"priority": 10}})
    world.serve(best, leaving)
    world.serve(WHISPER, other)
    reply = world.gateway.transcribe(file())
    assert (reply.status, reply.headers["x-roundhouse-model"]) == (200, "whisper-base")
    assert leaving.connections == 1
