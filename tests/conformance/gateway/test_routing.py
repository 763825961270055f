"""Where a request goes, what the engine gets, and what the client is told when the engine fails."""

import http.client
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway.client import AUDIO, file, form, start_upload
from tests.conformance.gateway.client import field as text
from tests.conformance.gateway.conftest import World, free_port
from tests.conformance.gateway.manifests import Variant, slice_of, upstream
from tests.support.waiting import wait_until

WHISPER = Variant("whisper", "whisper-base", aliases=("base",), model_name="base")
MODEL = text("model", "whisper-base")
DRAINING = {"ready": False, "serving": True, "terminating": True}
UNREADY = {"ready": False, "serving": False, "terminating": False}

Start = Callable[[Mapping[str, str]], World]


@pytest.mark.req("S0-2", "S0-11", "S0-19")
@pytest.mark.parametrize("name", ["whisper-base", "base"])
def test_the_engine_gets_its_own_name_of_the_model_and_the_client_the_canonical_id(
    world: World, name: str
) -> None:
    engine = world.serve(WHISPER)
    reply = world.gateway.transcribe(
        text("model", name), file(), headers={"X-Request-Id": "abc", "Authorization": "Bearer sk-secret"}
    )
    (received,) = engine.requests
    assert received.model == "base"
    assert received.headers["x-request-id"] == reply.headers["x-request-id"] == "abc"
    assert reply.headers["x-roundhouse-model"] == "whisper-base"
    assert "authorization" not in received.headers
    assert received.path == "/v1/audio/transcriptions"


@pytest.mark.req("S1-2", "S1-6", "S1-8", "S1-22")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((), "whisper-base"),
        ((text("model", "auto"),), "whisper-base"),
        ((text("model", ""),), "whisper-base"),
        ((text("model", "auto"), text("language", "en")), "parakeet"),
        ((text("model", "auto"), text("language", "en-GB")), "parakeet"),
        ((text("model", "auto"), text("language", "hr")), "whisper-base"),
        ((text("model", "auto"), text("tier", "fast")), "whisper-base"),
        ((text("model", "auto"), text("streaming", "true"), text("language", "en")), "streamer"),
    ],
)
def test_auto_goes_by_what_the_request_needs(world: World, fields: tuple[bytes, ...], expected: str) -> None:
    world.serve(WHISPER)
    world.serve(Variant("parakeet", languages=("en",), real_time_factor="0.0005"))
    world.serve(Variant("streamer", languages=("en",), streaming="Chunked", real_time_factor="9"))
    reply = world.gateway.transcribe(*fields, file())
    assert reply.status == 200
    assert reply.headers["x-roundhouse-model"] == expected
    received = next(each for engine in world.engines for each in engine.requests)
    assert {"tier", "streaming"}.isdisjoint(dict(received.fields))


@pytest.mark.req("S0-6")
def test_a_default_model_must_exist(own_world: Start) -> None:
    world = own_world({"DEFAULT_MODEL": "nonesuch"})
    world.serve(WHISPER)
    reply = world.gateway.transcribe(file())
    assert reply.status == 503
    assert reply.error["message"] == "The gateway's default model 'nonesuch' is not published."


@pytest.mark.req("S0-6")
def test_the_default_model_may_be_a_name(own_world: Start) -> None:
    world = own_world({"DEFAULT_MODEL": "base"})
    world.serve(WHISPER)
    world.serve(Variant("other", real_time_factor="0.0001"))
    assert world.gateway.transcribe(file()).headers["x-roundhouse-model"] == "whisper-base"


@pytest.mark.req("S1-4")
def test_aliases_can_be_switched_off(own_world: Start) -> None:
    world = own_world({"ALIASES_ENABLED": "false"})
    world.serve(Variant("whisper", alternate_names=("Systran/base",), aliases=("base",)))
    assert "aliases" not in world.gateway.get("/v1/models").json
    assert world.gateway.get("/v1/models/base").status == 404
    assert world.gateway.transcribe(text("model", "base"), file()).status == 400
    assert world.gateway.transcribe(text("model", "Systran/base"), file()).status == 200


def test_only_names_that_the_variant_has_won_are_answered(world: World) -> None:
    world.serve(Variant("whisper", aliases=("fast", "base"), published=("whisper", "base")))
    assert world.gateway.get("/v1/models/base").status == 200
    assert world.gateway.get("/v1/models/fast").status == 404


def test_requests_go_to_the_endpoint_with_the_least_in_flight(world: World) -> None:
    engines = [world.engine() for _ in range(3)]
    for engine in engines:
        engine.answer = scripts.after(0.5)
    world.serve(WHISPER, *engines)
    with ThreadPoolExecutor(9) as pool:
        replies = list(pool.map(lambda _: world.gateway.transcribe(MODEL, file()), range(9)))
    assert {reply.status for reply in replies} == {200}
    assert [len(engine.requests) for engine in engines] == [3, 3, 3]


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
    reply = world.gateway.transcribe(MODEL, file())
    assert reply.status == 429
    assert reply.headers["retry-after"] == "2"
    assert reply.json == {
        "error": {"message": "The engine is full.", "type": "rate_limit", "param": None, "code": "full"}
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


def test_an_answer_may_begin_while_the_upload_goes_on(world: World) -> None:
    engine = world.serve(Variant("whisper", dialect="OpenAI"))
    engine.read = False
    engine.answer = scripts.answer_while_reading
    with start_upload(world.gateway.port, text("model", "whisper"), total=3_000_000) as connection:
        connection.sendall(file(b"x" * 500_000)[:-2])
        response = http.client.HTTPResponse(connection)
        response.begin()
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


def test_an_engine_that_says_nothing(world: World) -> None:
    world.serve(WHISPER).answer = scripts.never
    reply = world.gateway.transcribe(MODEL, file())
    assert reply.status == 504
    assert reply.error["code"] == "engine_timeout"
    assert reply.headers["x-should-retry"] == "false"


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
        (422, {"detail": "no such thing"}, 422, "no such thing", "invalid_request_error"),
        (500, "Traceback: secret", 500, "The engine answered 500 Internal Server Error.", "upstream_error"),
        (503, "x" * 100_000, 503, "The engine answered 503 Service Unavailable.", "upstream_error"),
        (404, "<html>nginx</html>", 502, "Engine 'whisper-base' refused", "upstream_error"),
        (401, {"detail": "key"}, 502, "Engine 'whisper-base' refused", "upstream_error"),
    ],
)
def test_an_engines_own_errors(  # noqa: PLR0917 - a table's columns
    world: World, status: int, body: object, expected_status: int, message: str, kind: str
) -> None:
    world.serve(WHISPER).answer = scripts.answering(status, body)
    reply = world.gateway.transcribe(MODEL, file())
    assert reply.status == expected_status
    assert message in reply.json["error"]["message"]
    assert reply.json["error"]["type"] == kind
    assert set(reply.json["error"]) == {"message", "type", "param", "code"}
    if body is SHAPED:
        assert reply.json == SHAPED, "what is in shape passes untouched"


def test_an_early_error_reaches_a_client_that_is_still_sending(world: World) -> None:
    engine = world.serve(Variant("whisper", dialect="OpenAI"))
    engine.read = False
    engine.answer = scripts.answering(400, SHAPED)
    reply = world.gateway.transcribe(text("model", "whisper"), file(AUDIO * 1000))
    assert (reply.status, reply.json) == (400, SHAPED)


def test_headers_of_the_engine_that_pass_and_those_that_do_not(world: World) -> None:
    headers = {
        "X-Roundhouse-Load": "1/4",
        "X-Roundhouse-Instance": "pod",
        "Set-Cookie": "a=b",
        "X-Model-Hint": "kept",
    }
    world.serve(WHISPER).answer = scripts.answering(200, {"text": "ok"}, headers)
    reply = world.gateway.transcribe(MODEL, file())
    assert reply.headers["x-model-hint"] == "kept"
    assert {"x-roundhouse-load", "x-roundhouse-instance", "set-cookie"}.isdisjoint(reply.headers)


def test_slices_are_followed(world: World) -> None:
    first, second = world.engine(), world.engine()
    world.serve(WHISPER, first)
    assert world.gateway.transcribe(MODEL, file()).status == 200
    world.api.put("endpointslices", slice_of("whisper", first.port, suffix="0", conditions=DRAINING))
    world.wait_for("whisper-base", "unhealthy")
    assert world.gateway.transcribe(MODEL, file()).error["code"] == "model_not_running"
    world.api.put("endpointslices", slice_of("whisper", second.port, suffix="1"))
    world.wait_for("whisper-base", "running")
    assert world.gateway.transcribe(MODEL, file()).status == 200
    assert (len(first.requests), len(second.requests)) == (1, 1)
    world.api.put("endpointslices", slice_of("whisper", second.port, suffix="1", conditions=UNREADY))
    world.wait_for("whisper-base", "unhealthy")
    world.api.delete("endpointslices", "models", "whisper-1")
    world.api.put("modelvariants", Variant("whisper", "whisper-base", replicas=0).manifest())
    world.wait_for("whisper-base", "available")


def test_a_request_in_flight_outlives_its_endpoints_draining(world: World) -> None:
    engine = world.serve(WHISPER)
    engine.answer = scripts.after(1)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(world.gateway.transcribe, MODEL, file())
        wait_until(lambda: engine.requests, seconds=5, what="the engine has the request", every=0.02)
        world.api.put("endpointslices", slice_of("whisper", engine.port, suffix="0", conditions=DRAINING))
        world.wait_for("whisper-base", "unhealthy")
        assert running.result().status == 200


@pytest.mark.parametrize("suffix", ["", "/v1", "/v1/"])
def test_an_upstream_engine_is_called_at_its_own_address(world: World, suffix: str) -> None:
    engine = world.engine()
    world.api.put("engines", upstream(engine.url + suffix))
    variant = Variant(
        "hosted",
        "gpt-4o-transcribe",
        engine="elsewhere",
        backend="Upstream",
        model_name="gpt-4o",
        dialect="OpenAI",
    )
    world.api.put("modelvariants", variant.manifest())
    world.wait_for("gpt-4o-transcribe", "running")
    reply = world.gateway.transcribe(text("model", "gpt-4o-transcribe"), file())
    assert (reply.status, reply.headers["x-roundhouse-model"]) == (200, "gpt-4o-transcribe")
    (received,) = engine.requests
    assert (received.path, received.model) == ("/v1/audio/transcriptions", "gpt-4o")


def test_an_upstream_that_needs_a_key_is_refused_clearly(world: World) -> None:
    engine = world.engine()
    world.api.put("engines", upstream(engine.url, apiKeySecretRef={"name": "key", "key": "token"}))
    variant = Variant("hosted", engine="elsewhere", backend="Upstream", dialect="OpenAI")
    world.api.put("modelvariants", variant.manifest())
    world.wait_for("hosted", "available")
    reply = world.gateway.transcribe(text("model", "hosted"), file())
    assert reply.status == 503
    assert "does not support yet" in reply.error["message"]
    assert world.gateway.transcribe(file()).error["code"] == "no_engine_available", "`auto` leaves it alone"
    assert engine.requests == []


def test_an_engine_with_a_path_of_its_own(world: World) -> None:
    engine = world.engine()
    manifest = upstream("http://unused")
    routes = [{"name": "Transcriptions", "path": "/asr/run"}]
    manifest["spec"]["upstream"]["baseURL"] = engine.url
    manifest["spec"]["api"]["routes"] = routes
    world.api.put("engines", manifest)
    variant = Variant("hosted", engine="elsewhere", backend="Upstream", dialect="OpenAI")
    world.api.put("modelvariants", variant.manifest())
    world.wait_for("hosted", "running")
    assert world.gateway.transcribe(text("model", "hosted"), file()).status == 200
    assert engine.requests[0].path == "/asr/run"
