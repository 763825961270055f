"""Uploads that cannot be served: each a clear answer that says what to do, in the one shape."""

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from tests.conformance.gateway.client import (
    AUDIO,
    BOUNDARY,
    FORM_TYPE,
    Reply,
    answer_on,
    file,
    form,
    request,
    start_upload,
)
from tests.conformance.gateway.client import field as text
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.support.waiting import wait_until

WHISPER = Variant("whisper")
ENGLISH = Variant("english", languages=("en",), word_timestamps="None")
MODEL = text("model", "whisper")


@dataclass(frozen=True)
class Bad:
    id: str
    body: bytes
    status: int
    code: str
    param: str | None
    says: str
    headers: Mapping[str, str] = field(default_factory=lambda: FORM_TYPE)


INVALID, UNSUPPORTED = "invalid_value", "unsupported_value"
MALFORMED, NOT_A_FORM = "malformed_upload", "unsupported_media_type"
CASES = (
    Bad("no-file", form(MODEL), 400, "missing_required_parameter", "file", "no `file`"),
    Bad("empty-file", form(MODEL, file(b"")), 400, INVALID, "file", "is empty"),
    Bad("empty-file-first", form(file(b""), MODEL), 400, INVALID, "file", "is empty"),
    Bad("two-files", form(MODEL, file(), file()), 400, INVALID, "file", "`file` twice"),
    Bad("json", b'{"model": "whisper"}', 415, NOT_A_FORM, None, "multipart/form-data",
        {"Content-Type": "application/json"}),
    Bad("no-type", form(MODEL, file()), 415, NOT_A_FORM, None, "header is missing", {}),
    Bad("no-boundary", form(MODEL, file()), 415, NOT_A_FORM, None, "no boundary",
        {"Content-Type": "multipart/form-data"}),
    Bad("not-a-form", b"hello", 400, MALFORMED, None, "cut off"),
    Bad("empty-body", b"", 400, MALFORMED, None, "cut off"),
    Bad("broken", f"--{BOUNDARY}\r\nno colon\r\n\r\nx\r\n".encode(), 400, MALFORMED, None, "is broken"),
    Bad("cut-off", (MODEL + file())[:-100], 400, MALFORMED, None, "was cut off"),
    Bad("cut-off-file-first", file()[:-100], 400, MALFORMED, None, "was cut off"),
    Bad("docx", form(MODEL, text("response_format", "docx"), file()), 400, UNSUPPORTED, "response_format",
        "response_format 'docx' is not supported. Use one of json, text, verbose_json"),
    Bad("late-docx", form(MODEL, file(), text("response_format", "docx")), 400, UNSUPPORTED,
        "response_format", "'docx' is not supported"),
    Bad("late-speakers", form(MODEL, file(), text("response_format", "diarized_json")), 400, UNSUPPORTED,
        "model", "does not offer diarization"),
    Bad("logprobs", form(MODEL, file(), text("include[]", "logprobs")), 400, UNSUPPORTED,
        "include", "no log probabilities"),
    Bad("granularity", form(MODEL, text("timestamp_granularities[]", "phoneme"), file()), 400, INVALID,
        "timestamp_granularities", "'phoneme' is unknown"),
    Bad("granularity-json", form(MODEL, text("timestamp_granularities[]", "word"), file()), 400, INVALID,
        "timestamp_granularities", "needs response_format 'verbose_json'"),
    Bad("streamed-subtitles", form(MODEL, text("stream", "true"), file(), text("response_format", "vtt")),
        400, UNSUPPORTED, "response_format", "cannot be streamed"),
    Bad("temperature", form(MODEL, text("temperature", "warm"), file()), 400, INVALID, "temperature",
        "from 0 to 1"),
    Bad("temperature-nan", form(MODEL, text("temperature", "nan"), file()), 400, INVALID, "temperature",
        "from 0 to 1"),
    Bad("tier", form(text("tier", "turbo"), file()), 400, INVALID, "tier", "Use one of fast"),
    Bad("two-models", form(MODEL, text("model", "other"), file()), 400, INVALID, "model", "twice"),
    Bad("late-model", form(MODEL, file(), text("model", "other")), 400, INVALID, "model", "twice"),
    Bad("long-field", form(text("prompt", "x" * 70_000), MODEL, file()), 400, INVALID, "prompt", "longer"),
    Bad("many-fields", form(*[text(f"f{number}", "x") for number in range(200)], file()), 400, INVALID,
        None, "too many fields"),
    Bad("language", form(text("model", "english"), text("language", "hr"), file()), 400, UNSUPPORTED,
        "language", "Engine 'english' does not support language 'hr', only en."),
    Bad("language-name", form(text("language", "english"), file()), 400, INVALID, "language",
        "must be an ISO 639 code such as 'en' or 'pt-BR', not 'english'"),
    Bad("late-language", form(text("model", "english"), file(), text("language", "hr")), 400,
        UNSUPPORTED, "language", "does not support language 'hr'"),
    Bad("words", form(text("model", "english"), text("response_format", "verbose_json"),
        text("timestamp_granularities[]", "word"), file()), 400, UNSUPPORTED,
        "timestamp_granularities", "Engine 'english' has no word timestamps."),
    Bad("stage", form(text("model", "embedder"), file()), 400, UNSUPPORTED, "model",
        "Engine 'embedder' serves stage 'embed'; 'transcribe' is asked for."),
    Bad("unrouted", form(text("model", "aligner"), file()), 400, "stage_not_routed", "model",
        "Engine 'aligner' serves stage 'align', which has no route (StageNotRouted)"),
    Bad("long-model", form(text("model", "x" * 300), file()), 400, INVALID, "model", "at most 200"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_bad_uploads(world: World, case: Bad) -> None:
    world.serve(WHISPER)
    world.serve(ENGLISH)
    world.serve(Variant("embedder", stage="Embed"))
    world.serve(Variant("aligner", stage="Align"))
    reply = world.gateway.request("POST", "/v1/audio/transcriptions", case.body, case.headers)
    assert reply.status == case.status
    assert (reply.error["code"], reply.error["param"]) == (case.code, case.param)
    assert reply.error["type"] == "invalid_request_error"
    assert case.says in reply.error["message"]
    good = world.gateway.transcribe(MODEL, file())
    assert good.status == 200, "the gateway serves on after it"


@pytest.mark.req("S0-7", "S0-10", "S0-21", "S1-16")
def test_an_unknown_model_on_an_upload(world: World) -> None:
    world.serve(WHISPER)
    world.serve(ENGLISH)
    world.serve(Variant("embedder", stage="Embed"))
    reply = world.gateway.transcribe(text("model", "unknown-engine"), file())
    assert reply.status == 400
    assert reply.error == {
        "type": "invalid_request_error",
        "message": "Engine 'unknown-engine' not found. Models here: english, whisper.",
        "param": "model",
        "code": "model_not_found",
    }
    assert reply.json["detail"] == {
        "type": "invalid_request_error",
        "message": "Unknown model: 'unknown-engine'. Available models: english, whisper",
        "param": "model",
    }
    assert world.gateway.metric("roundhouse_gateway_model_resolution_errors_total", reason="unknown") >= 1


_ADVICE = {
    "Starting": "Try again.",
    "ImagePull": "Try again.",
    "CrashLoop": "It is started again: try later, and if that does not help ask whoever operates it.",
}


@pytest.mark.req("S0-16", "S1-14", "S1-17")
@pytest.mark.parametrize(
    ("reason", "status", "again"),
    [
        ("ScaledToZero", "available", False),
        ("NoGPU", "available", False),
        ("InsufficientResources", "available", False),
        ("Starting", "available", True),
        ("ImagePull", "available", True),
        ("CrashLoop", "unhealthy", True),
    ],
)
def test_a_known_model_that_does_not_run(world: World, reason: str, status: str, again: bool) -> None:
    name = "faster-whisper-large-v3"
    another = world.serve(Variant("another"))
    world.publish(Variant(name, available="False", reason=reason))
    world.wait_for(name, status)
    reply = world.gateway.transcribe(text("model", name), file())
    assert reply.status == 503
    assert another.requests == [], "no other model is put in its place"
    advice = _ADVICE[reason] if again else "It does not start by itself: ask whoever operates it."
    told = world.gateway.get(f"/v1/models/{name}").json["ready"]["message"]
    assert reply.error == {
        "type": "service_unavailable",
        "message": f"Engine '{name}' is not currently running ({reason}): {told}. {advice}",
        "param": None,
        "code": "model_not_running",
    }
    assert ("retry-after" in reply.headers, reply.headers.get("x-should-retry")) == (
        again,
        None if again else "false",
    )
    assert reply.headers["x-roundhouse-model"] == name


def test_a_known_model_whose_engine_is_missing(world: World) -> None:
    manifest = Variant("orphan", available="False", reason="EngineNotFound").manifest()
    for name in ("effective", "backends", "engine"):
        del manifest["status"][name]
    world.api.put("modelvariants", manifest)
    world.wait_for("orphan", "available")
    reply = world.gateway.transcribe(text("model", "orphan"), file())
    assert (reply.error["code"], reply.headers["x-should-retry"]) == ("model_not_running", "false")
    assert "(EngineNotFound)" in reply.error["message"]
    (item,) = world.gateway.get("/v1/models?status=all").json["data"]
    assert item["stage"] is None


@pytest.mark.req("S1-2", "S1-18")
def test_auto_finds_nothing_for_the_language(world: World) -> None:
    world.serve(ENGLISH)
    reply = world.gateway.transcribe(text("model", "auto"), text("language", "hr"), file())
    assert reply.status == 503
    assert reply.error == {
        "type": "service_unavailable",
        "message": "No engine available for stage 'transcribe' with language 'hr'",
        "param": None,
        "code": "no_engine_available",
    }
    assert reply.headers["x-should-retry"] == "false", "no model of the catalogue has the language"
    assert "retry-after" not in reply.headers
    world.publish(Variant("croatian", languages=("hr",), available="False", reason="ScaledToZero"))
    world.wait_for("croatian", "available")
    could = world.gateway.transcribe(text("model", "auto"), text("language", "hr"), file())
    assert (could.status, could.error["code"]) == (503, "no_engine_available")
    assert could.error["message"].startswith(reply.error["message"])
    assert "'croatian' could answer and is not running (ScaledToZero)" in could.error["message"]
    assert (could.headers["x-should-retry"], "retry-after" in could.headers) == ("false", False)
    world.publish(Variant("croatian", languages=("hr",), available="False", reason="Starting"))
    wait_until(
        lambda: "retry-after" in _croatian(world).headers, seconds=10, what="it is seen to start", every=0.05
    )
    assert "x-should-retry" not in _croatian(world).headers


def _croatian(world: World) -> Reply:
    return world.gateway.transcribe(text("model", "auto"), text("language", "hr"), file())


def test_refused_requests_name_no_client_chosen_model_in_metrics(world: World) -> None:
    world.gateway.transcribe(text("model", "made-up-by-a-client"), file())
    metrics = request(world.gateway.metrics_port, "GET", "/metrics").body
    assert b"made-up-by-a-client" not in metrics
    labels = {"model": "unknown", "code": "400"}
    wait_until(
        lambda: world.gateway.metric("roundhouse_gateway_requests_total", **labels),
        seconds=30,
        what="it is counted",
        every=0.02,
    )


Start = Callable[[Mapping[str, str]], World]


def test_a_body_above_the_limit(own_world: Start) -> None:
    world = own_world({"BODY_LIMIT_BYTES": "100000"})
    world.serve(WHISPER)
    announced = world.gateway.transcribe(MODEL, file(AUDIO * 10))
    assert announced.status == 413
    assert announced.error["code"] == "upload_too_large"
    assert "limit of 100000 bytes" in announced.error["message"]
    streamed = world.gateway.request(
        "POST", "/v1/audio/transcriptions", iter([MODEL, file(AUDIO * 10), form()]), FORM_TYPE
    )
    assert streamed.status == 413
    assert "limit of 100000 bytes" in streamed.error["message"]


def test_a_form_with_its_file_first_that_does_not_fit_the_spool(own_world: Start) -> None:
    world = own_world({"SPOOL_LIMIT_BYTES": "100000"})
    engine = world.serve(WHISPER)
    refused = world.gateway.transcribe(file(AUDIO * 10), MODEL)
    assert refused.status == 413
    assert "send `model` first" in refused.error["message"]
    assert engine.requests == []
    assert world.gateway.transcribe(MODEL, file(AUDIO * 10)).status == 200
    assert world.gateway.transcribe(file(AUDIO), MODEL).status == 200
    assert world.gateway.metric("roundhouse_gateway_spool_bytes") == 0


@pytest.mark.impatient
def test_an_upload_that_stands_still(world: World) -> None:
    world.serve(WHISPER)
    with start_upload(world.gateway.port, MODEL, total=100_000) as client, answer_on(client) as response:
        assert response.status == 408
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["connection"] == "close"
        assert b"stood still" in response.read()


def trickle(client: socket.socket, piece: bytes) -> bytes:
    """Sends it ten times a second, for half a minute at the most; what is answered meanwhile."""
    client.settimeout(0.1)
    answer = b""
    with suppress(ConnectionError):
        for _ in range(300):
            with suppress(TimeoutError):
                client.sendall(piece)
                answer += client.recv(65536)
            if b"upload_too_slow" in answer:
                break
    return answer


def test_an_upload_that_comes_byte_by_byte(own_world: Start) -> None:
    world = own_world({"CLIENT_IDLE_SECONDS": "4", "UPLOAD_BYTES_PER_SECOND": "1000"})
    engine = world.serve(WHISPER)
    quick = iter([MODEL, file(), form()])
    assert world.gateway.request("POST", "/v1/audio/transcriptions", quick, FORM_TYPE).status == 200
    begun = MODEL + file(AUDIO)[:200]
    with start_upload(world.gateway.port, begun, total=100_000) as client:
        answer = trickle(client, b"x")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"1000 bytes a second" in answer
    wait_until(lambda: engine.gone, seconds=10, what="the engine is told")


def test_json_that_comes_as_slowly_as_speech_may(own_world: Start) -> None:
    """It waits in memory meanwhile."""
    world = own_world({"CLIENT_IDLE_SECONDS": "4", "UPLOAD_BYTES_PER_SECOND": "100"})
    head = b"POST /v1/embeddings HTTP/1.1\r\nhost: gateway\r\ncontent-length: 1000000\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", world.gateway.port)) as client:
        client.sendall(head)
        answer = trickle(client, b" " * 60)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"3200 bytes a second" in answer
