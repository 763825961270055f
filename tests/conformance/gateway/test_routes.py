"""The routes that tell of models and engines, and the shape of what they refuse."""

from typing import Any

import pytest

from tests.conformance.gateway.client import request
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant, upstream
from tests.support.openai_schema import assert_valid
from tests.support.waiting import wait_until

BASE = Variant(
    "faster-whisper-base",
    alternate_names=("Systran/faster-whisper-base",),
    aliases=("base",),
    word_timestamps="Alignment",
    spec={"displayName": "Whisper Base", "description": "Very fast", "ownedBy": "openai"},
)
PARAKEET = Variant("parakeet-0-6b", "parakeet-0.6b", languages=("en",), real_time_factor="0.0005")
ASLEEP = Variant("large", "whisper-large-v3", aliases=("accurate",), available="False", reason="ScaledToZero")
CRASHED = Variant("crashed", available="False", reason="CrashLoop")


def populate(world: World) -> None:
    world.serve(BASE)
    world.serve(PARAKEET)
    for variant in (ASLEEP, CRASHED):
        world.publish(variant)
    world.wait_for("crashed", "unhealthy")


def ids(world: World, query: str) -> list[str]:
    return [item["id"] for item in world.gateway.get(f"/v1/models{query}").json["data"]]


@pytest.mark.req("S0-12", "S0-21", "S1-3", "S1-10", "S1-26", "S1-27", "S1-29")
def test_the_list_has_what_runs(world: World) -> None:
    populate(world)
    body = world.gateway.get("/v1/models").json
    assert_valid("ListModelsResponse", body)
    assert_valid("Model", world.gateway.get("/v1/models/faster-whisper-base").json)
    assert body["object"] == "list"
    assert body["aliases"] == {"base": "faster-whisper-base"}
    assert body["data"][0] == {
        "id": "faster-whisper-base",
        "object": "model",
        "created": 1793523600,
        "owned_by": "openai",
        "name": "Whisper Base",
        "description": "Very fast",
        "stage": "transcribe",
        "status": "running",
        "tier": None,
        "capabilities": {
            "languages": ["en", "hr"],
            "language_count": 2,
            "streaming": False,
            "word_timestamps": False,
            "word_timestamps_source": "alignment",
            "interfaces": ["batch"],
        },
    }
    assert [item["id"] for item in body["data"]] == ["faster-whisper-base", "parakeet-0.6b"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?status=all", ["crashed", "faster-whisper-base", "parakeet-0.6b", "whisper-large-v3"]),
        ("?status=available", ["whisper-large-v3"]),
        ("?status=unhealthy", ["crashed"]),
        ("?language=hr", ["faster-whisper-base"]),
        ("?language=hr-HR", ["faster-whisper-base"]),
        ("?stage=transcribe&language=en", ["faster-whisper-base", "parakeet-0.6b"]),
        ("?stage=embed", []),
    ],
)
def test_the_list_is_filtered(world: World, query: str, expected: list[str]) -> None:
    populate(world)
    assert ids(world, query) == expected


@pytest.mark.req("S0-13", "S0-21")
@pytest.mark.parametrize("name", ["faster-whisper-base", "base", "Systran/faster-whisper-base"])
def test_detail_is_found_by_every_name_and_tells_the_canonical_id(world: World, name: str) -> None:
    populate(world)
    detail = world.gateway.get(f"/v1/models/{name}").json
    assert detail["id"] == "faster-whisper-base"
    assert detail["engine"] == "fake-engine"
    assert detail["engine_model"] == "engine-faster-whisper-base"
    assert detail["resource_hints"] == {"vram_gb": 1.0, "speed_factor": 8.0}
    assert detail["alternate_names"] == ["Systran/faster-whisper-base"]


def test_detail_of_one_that_does_not_run_says_why(world: World) -> None:
    populate(world)
    detail = world.gateway.get("/v1/models/whisper-large-v3").json
    assert detail["status"] == "available"
    (told,) = world.told(detail["id"])
    assert detail["ready"] == {"status": "false", "reason": "ScaledToZero", "message": told}


@pytest.mark.req("S0-14", "S0-21")
def test_detail_of_an_unknown_model(world: World) -> None:
    reply = world.gateway.get("/v1/models/nonexistent")
    assert reply.status == 404
    assert reply.json["detail"] == "Model not found: nonexistent"
    assert reply.error == {
        "message": "Model not found: nonexistent",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.req("S1-12", "S1-13", "S1-14", "S1-15")
def test_engines_list_the_whole_catalogue_and_the_runtimes(world: World) -> None:
    populate(world)
    world.api.put("engines", upstream("http://127.0.0.1:9/v1"))

    def engines() -> Any:
        found = world.gateway.get("/v1/engines").json
        return found if len(found["runtimes"]) == 2 else None

    body = wait_until(engines, seconds=10, what="both engines are known", every=0.02)
    assert body["total"] == 4
    assert {item["id"]: item["status"] for item in body["engines"]} == {
        "crashed": "unhealthy",
        "faster-whisper-base": "running",
        "parakeet-0.6b": "running",
        "whisper-large-v3": "available",
    }
    base = body["engines"][1]
    assert set(base) == {"id", "stage", "version", "status", "capabilities", "hardware", "performance"}
    assert base["version"] == "1.0.0"
    assert base["hardware"] == {"gpu": "optional", "min_memory_gb": 2.0, "vram_gb": 1.0, "device": "cpu"}
    assert base["performance"]["rtf_cpu"] == 0.05
    runtime = body["runtimes"][-1]
    assert (runtime["name"], runtime["type"], runtime["serving"]) == ("fake-engine", "workload", "dedicated")


def test_streaming_is_claimed_only_for_a_realtime_interface(world: World) -> None:
    world.serve(Variant("batch", streaming="Native"))
    world.serve(Variant("live", streaming="Chunked", interfaces=("Batch", "Realtime")))
    streaming = {
        item["id"]: item["capabilities"]["streaming"] for item in world.gateway.get("/v1/models").json["data"]
    }
    assert streaming == {"batch": False, "live": True}


@pytest.mark.req("S1-27")
def test_any_language_has_no_count(world: World) -> None:
    world.serve(Variant("any", languages=("*",)))
    capabilities = world.gateway.get("/v1/models/any").json["capabilities"]
    assert (capabilities["languages"], capabilities["language_count"]) == (["*"], None)


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "param"),
    [
        ("GET", "/nowhere", 404, "unknown_url", None),
        ("GET", "/v1/models/", 404, "model_not_found", "model"),
        ("GET", "/v1/models/../../etc/passwd", 404, "model_not_found", "model"),
        ("DELETE", "/v1/models", 405, "method_not_allowed", None),
        ("GET", "/v1/audio/transcriptions", 405, "method_not_allowed", None),
        ("GET", "/v1/models?status=asleep", 400, "invalid_value", "status"),
        ("GET", "/v1/models?stage=Transcribe", 400, "invalid_value", "stage"),
        ("GET", f"/v1/models?language={'x' * 40}", 400, "invalid_value", "language"),
        ("GET", "/v1/models?language=english", 400, "invalid_value", "language"),
        ("GET", "/v1/select?language=english", 400, "invalid_value", "language"),
        ("GET", "/v1/select?lang=hr", 400, "invalid_value", "lang"),
    ],
)
def test_every_refusal_has_the_envelope(  # noqa: PLR0917 - a table's columns
    world: World, method: str, path: str, status: int, code: str, param: str | None
) -> None:
    reply = world.gateway.request(method, path)
    assert reply.status == status
    assert (reply.error["code"], reply.error["param"]) == (code, param)
    assert reply.json["detail"] == reply.error["message"]
    if status == 405:
        allowed = reply.headers["allow"].split(", ")
        assert ("GET" in allowed) == ("HEAD" in allowed)
        assert reply.headers["allow"] in reply.error["message"]


def test_a_refused_value_is_told_without_words_of_the_framework(world: World) -> None:
    assert (
        world.gateway.get("/v1/models?stage=Transcribe").error["message"].startswith("`stage`: use one of ")
    )


@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/v1/models/nonesuch"])
def test_head_is_get_without_the_body(world: World, path: str) -> None:
    get, head = world.gateway.get(path), world.gateway.request("HEAD", path)
    assert (head.status, head.body) == (get.status, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("req-7F.a:1/x", True), ("a" * 129, False), ("spaces in it", False), ('"quoted"', False)],
)
def test_a_sane_request_id_is_kept_and_another_replaced(world: World, sent: str, kept: bool) -> None:
    reply = world.gateway.request("GET", "/v1/models", headers={"X-Request-Id": sent})
    assert (reply.headers["x-request-id"] == sent) is kept
    assert reply.headers["x-request-id"]


@pytest.mark.req("S0-15")
def test_the_description_names_every_route(world: World) -> None:
    paths = world.gateway.get("/openapi.json").json["paths"]
    assert set(paths) == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/models",
        "/v1/models/{model_id}",
        "/v1/engines",
        "/v1/select",
        "/v1/speech-to-text",
        "/v1/realtime/client_secrets",
        "/v1/single-use-token/realtime_scribe",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/rerank",
        "/v2/rerank",
    }


def test_probes_and_metrics_on_both_listeners(world: World) -> None:
    for port in (world.gateway.port, world.gateway.metrics_port):
        assert request(port, "GET", "/healthz").body == b"ok\n"
        assert request(port, "GET", "/readyz").status == 200
        assert b"roundhouse_gateway_snapshot_age_seconds 0.0" in request(port, "GET", "/metrics").body
    assert request(world.gateway.metrics_port, "GET", "/v1/models").status == 404
