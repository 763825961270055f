"""Where a request goes, what the engine gets, and what the client is told when the engine fails."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway.client import AUDIO, FORM_TYPE, file
from tests.conformance.gateway.client import field as text
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.gate import Gate
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
    gate = Gate(*engines)
    world.serve(WHISPER, *engines)
    with ThreadPoolExecutor(9) as pool:
        replies = [pool.submit(world.gateway.transcribe, MODEL, file()) for _ in range(9)]
        gate.wait_for(9)
        gate.open()
        assert {reply.result().status for reply in replies} == {200}
    assert [len(engine.requests) for engine in engines] == [3, 3, 3]


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


def test_nothing_of_one_clients_exchange_reaches_another(world: World) -> None:
    engine = world.engine()
    by_name = engine.url.replace("127.0.0.1", "localhost")
    world.api.put("engines", upstream(by_name))
    variant = Variant("hosted", engine="elsewhere", backend="Upstream", dialect="OpenAI")
    world.api.put("modelvariants", variant.manifest())
    world.wait_for("hosted", "running")
    engine.answer = scripts.answering(200, {"text": "ok"}, {"Set-Cookie": "session=first"})
    for _ in range(2):
        sent = {"Cookie": "mine=1", "Accept-Encoding": "gzip"}
        assert world.gateway.transcribe(text("model", "hosted"), file(), headers=sent).status == 200
    for received in engine.requests:
        assert "cookie" not in received.headers
        assert received.headers["accept-encoding"] == "identity"


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
    gate = Gate(engine)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(world.gateway.transcribe, MODEL, file())
        gate.wait_for(1)
        world.api.put("endpointslices", slice_of("whisper", engine.port, suffix="0", conditions=DRAINING))
        world.wait_for("whisper-base", "unhealthy")
        gate.open()
        assert running.result().status == 200


@pytest.mark.req("S2-27")
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


@pytest.mark.parametrize("parts", [(text("model", "round"), file()), (file(), text("model", "round"))])
def test_an_upstream_that_leads_back_here_is_called_a_loop(world: World, parts: tuple[bytes, ...]) -> None:
    world.api.put("engines", upstream(world.gateway.base_url))
    variant = Variant("round", engine="elsewhere", backend="Upstream", model_name="round", dialect="OpenAI")
    world.api.put("modelvariants", variant.manifest())
    world.wait_for("round", "running")
    reply = world.gateway.transcribe(*parts)
    assert reply.status == 508
    assert (reply.error["code"], reply.error["type"]) == ("loop_detected", "upstream_error")
    assert "Model 'round'" in reply.error["message"]
    assert "so an upstream leads back here" in reply.error["message"]
    assert reply.headers["x-should-retry"] == "false"


def test_hops_are_counted_before_the_audio_is_read(world: World) -> None:
    engine = world.serve(WHISPER)
    hops = {"Via": "1.0 proxy, 1.1 roundhouse, 1.1 roundhouse, 1.1 roundhouse"}
    assert world.gateway.transcribe(MODEL, file(), headers=hops).status == 200
    (received,) = engine.requests
    assert received.headers["via"] == f"{hops['Via']}, 1.1 roundhouse"
    once_more = {"Via": received.headers["via"], **FORM_TYPE}
    head = iter([MODEL, file(AUDIO)[:-2]])  # and no end of it
    reply = world.gateway.request("POST", "/v1/audio/transcriptions", head, once_more)
    assert (reply.status, reply.error["code"]) == (508, "loop_detected")
    assert len(engine.requests) == 1


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


def test_what_an_engine_tells_of_requests_from_elsewhere_counts(world: World) -> None:
    busy, idle = world.engine(), world.engine()
    busy.answer = scripts.answering(200, {"text": "ok"}, {"X-Roundhouse-Load": "7/8"})
    world.serve(WHISPER, busy)
    assert world.gateway.transcribe(MODEL, file()).status == 200
    world.serve(WHISPER, busy, idle)
    wait_until(
        lambda: world.gateway.transcribe(MODEL, file()).status == 200 and idle.requests,
        seconds=10,
        what="the second endpoint is known",
        every=0.02,
    )
    told = len(busy.requests)
    assert [world.gateway.transcribe(MODEL, file()).status for _ in range(4)] == [200] * 4
    assert len(busy.requests) == told, "by this gateway's own count both are idle"
