"""What every engine answers, whatever its handler: routes, headers, errors, admission."""

import contextlib
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from roundhouse_engine.errors import Refusal
from tests.conformance.engine.running import (
    SCRIPTED,
    THREADED,
    TRANSCRIPTIONS,
    Answer,
    Engine,
    answer,
    form,
    running,
    tones,
)
from tests.support.waiting import wait_until


def test_live_at_once_and_ready_when_loaded_with_progress_on_the_way(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running(SCRIPTED, tmp_path, TEST_LOAD_GATE=str(gate)) as engine:
        assert engine.get("/health/live").status == 200
        wait_until(lambda: progress(engine) == 0.5, seconds=30, what="half loaded", every=0.05)
        loading = engine.get("/health/ready")
        assert (loading.status, loading.json["status"]) == (503, "loading")
        assert loading.json["slots"] == {"ready": 0, "total": 1}
        assert engine.get("/v1/models").json["data"][0]["state"] == "loading"
        refused = engine.post(tones(1))
        assert_refused(refused, 503, Refusal.LOADING)
        gate.touch()
        engine.until_ready()
        assert engine.get("/health/ready").json["models"] == [
            {"name": "m", "state": "ready", "progress": 1.0}
        ]
        assert engine.post(tones(1)).status == 200


def progress(engine: Engine) -> float:
    models = engine.get("/health/ready").json["models"]
    value: float = models[0]["progress"]
    return value


def assert_refused(refused: Answer, status: int, reason: Refusal) -> None:
    assert refused.status == status
    assert refused.headers["x-roundhouse-reason"] == reason.value
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.error["code"] == f"engine_{reason.value}"


def test_models_in_openais_shape_and_the_official_client_reads_them(scripted: Engine) -> None:
    listing = scripted.get("/v1/models").json
    assert (listing["object"], listing["generation"]) == ("list", 1)
    (model,) = listing["data"]
    assert model["memoryBytes"] > 1 << 20
    assert model | {"created": 0, "memoryBytes": 0} == {
        "id": "m",
        "object": "model",
        "created": 0,
        "owned_by": "roundhouse",
        "state": "ready",
        "progress": 1.0,
        "capacity": 1,
        "inUse": 0,
        "cancelStep": "window",
        "loaded": True,
        "memoryBytes": 0,
    }
    (found,) = scripted.client.models.list().data
    assert found.id == "m"


def test_every_answer_carries_load_pod_and_request_id(scripted: Engine) -> None:
    for path in ("/health/live", "/v1/models", "/metrics", "/nowhere"):
        found = scripted.get(path, {"X-Request-Id": "id-1.a:b"})
        assert found.headers["x-roundhouse-load"] == "0/1"
        assert found.headers["x-roundhouse-instance"] == "pod-uid"
        assert found.headers["x-request-id"] == "id-1.a:b"
    assert len(scripted.get("/health/live").headers["x-request-id"]) == 32
    assert scripted.get("/health/live", {"X-Request-Id": "a b\tc"}).headers["x-request-id"] != "a b\tc"


def test_the_slot_is_free_again_when_the_answer_comes(scripted: Engine) -> None:
    assert scripted.post(tones(1)).headers["x-roundhouse-load"] == "0/1"


@dataclass(frozen=True)
class Wrong:
    id: str
    answer_to: tuple[str, str]
    status: int
    code: str


@pytest.mark.parametrize(
    "case",
    [
        Wrong("no such path", ("GET", "/v1/chat/completions"), 404, "not_found"),
        Wrong("no such method", ("GET", TRANSCRIPTIONS), 405, "method_not_allowed"),
        Wrong("no form", ("POST", TRANSCRIPTIONS), 415, "unsupported_media_type"),
    ],
    ids=lambda case: case.id,
)
def test_errors_have_all_four_keys(case: Wrong, scripted: Engine) -> None:
    found = scripted.request(*case.answer_to)
    assert (found.status, found.error["code"]) == (case.status, case.code)
    assert found.error["type"] == "invalid_request_error"
    assert found.headers.get("allow") == ("POST" if case.status == 405 else None)


def test_a_form_without_a_recording(scripted: Engine) -> None:
    found = scripted.post(None)
    assert (found.status, found.error["param"], found.error["code"]) == (400, "file", "missing")


def test_an_unknown_model_is_404_and_says_what_is_served(scripted: Engine) -> None:
    found = scripted.post(tones(1), model="other")
    assert (found.status, found.error["code"], found.error["param"]) == (404, "model_not_found", "model")
    assert "'other'" in found.error["message"]
    assert "Served here: 'm'" in found.error["message"]
    assert scripted.metric("requests_total", model="unknown", code="404") >= 1


@pytest.mark.req("S2-23")
def test_full_is_429_before_the_body_is_read(scripted: Engine) -> None:
    """A client that asks first (`Expect: 100-continue`) never has to send its gigabyte."""
    with scripted.started(tones(1), prompt="wait 600"):
        with contextlib.closing(scripted.connect()) as connection:
            connection.putrequest("POST", TRANSCRIPTIONS)
            for name, value in form(b"")[1].items():
                connection.putheader(name, value)
            connection.putheader("Content-Length", "1000000000")
            connection.putheader("Expect", "100-continue")
            connection.endheaders()
            refused = answer(connection)
            assert_refused(refused, 429, Refusal.FULL)
            # Its body never comes: nothing else that comes on this connection must be taken for it.
            assert refused.headers["connection"] == "close"
        # One that sends without asking gets the same answer.
        assert_refused(scripted.post(tones(50)), 429, Refusal.FULL)
        assert scripted.get("/v1/models").json["data"][0]["inUse"] == 1
    wait_until(lambda: scripted.in_use == 0, seconds=30, what="the slot is free")
    assert scripted.metric("refused_total", reason="full") >= 2


def test_an_admitted_client_is_told_to_continue(scripted: Engine) -> None:
    body, headers = form(tones(1))
    with socket.create_connection(("127.0.0.1", scripted.port), timeout=60) as raw:
        head = [f"POST {TRANSCRIPTIONS} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in headers.items()] + ["Expect: 100-continue"]
        raw.sendall("\r\n".join([*head, "", ""]).encode())
        assert raw.recv(1000).startswith(b"HTTP/1.1 100")
        raw.sendall(body)
        assert raw.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.req("S2-23")
def test_two_threads_work_at_once_and_a_third_request_is_refused(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running(THREADED, tmp_path) as engine:
        wait_until(lambda: engine.capacity == 2, seconds=30, what="both are up", every=0.05)
        with (
            engine.started(tones(1), prompt="wait 600"),
            engine.started(tones(1), prompt=f"until {gate}") as second,
        ):
            assert_refused(engine.post(tones(1)), 429, Refusal.FULL)
            gate.touch()
            assert answer(second).status == 200
        wait_until(lambda: engine.in_use == 0, seconds=30, what="cancelled", every=0.02)
        engine.terminate()
        assert engine.ended() == 0


def test_a_stream_sends_text_as_it_is_found(scripted: Engine) -> None:
    stream = scripted.client.audio.transcriptions.create(
        model="m", file=("a.wav", tones(3)), response_format="json", stream=True
    )
    events = list(stream)
    assert [event.type for event in events] == ["transcript.text.delta"] * 3 + ["transcript.text.done"]
    assert [getattr(event, "delta", None) for event in events] == ["sound", " sound", " sound", None]
    done = events[-1].to_dict()
    assert done["text"] == "sound sound sound"
    assert done["duration"] == 6.3


def test_a_stream_that_fails_on_the_way_says_so_in_an_event(scripted: Engine) -> None:
    before = scripted.metric("requests_total", model="m", code="500")
    found = scripted.post(tones(2), stream="true", prompt="raise x")
    assert found.status == 200
    first, last = (json.loads(line[6:]) for line in found.body.decode().split("\n\n") if line)
    assert first["type"] == "transcript.text.delta"
    assert last["error"]["code"] == "engine_failure"
    assert sorted(last["error"]) == ["code", "message", "param", "type"]
    wait_until(
        lambda: scripted.metric("requests_total", model="m", code="500") == before + 1,
        seconds=10,
        what="counted as what it ended with",
    )


def test_a_stream_of_what_is_no_audio_is_a_plain_error(scripted: Engine) -> None:
    found = scripted.post(b"no audio", stream="true")
    assert (found.status, found.error["code"]) == (400, "audio_unreadable")


def test_metrics_count_what_was_done(scripted: Engine) -> None:
    before = scripted.metric("audio_seconds_total", model="m")
    scripted.post(tones(2))
    assert scripted.metric("audio_seconds_total", model="m") - before == pytest.approx(4.6, abs=0.01)
    assert scripted.metric("requests_total", model="m", code="200") >= 1
    assert scripted.metric("request_seconds_bucket", model="m", le="600.0") >= 1
    assert scripted.metric("real_time_factor_count", model="m") >= 1
    assert scripted.metric("upload_bytes_total") > 100_000
    assert (scripted.metric("slots"), scripted.metric("slots_in_use"), scripted.metric("ready")) == (1, 0, 1)


def logged(engine: Engine, request_id: str) -> dict[str, Any] | None:
    lines = [json.loads(line) for line in engine.logged.splitlines() if line.endswith("}")]
    return next((line for line in lines if line.get("request_id") == request_id), None)


def test_the_log_has_a_line_for_each_request_and_no_probes(scripted: Engine) -> None:
    scripted.get("/health/live", {"X-Request-Id": "a-probe"})
    body, headers = form(tones(1))
    scripted.request("POST", TRANSCRIPTIONS, body, headers | {"X-Request-Id": "a-request"})
    line = wait_until(lambda: logged(scripted, "a-request"), seconds=30, what="it is logged", every=0.02)
    assert line
    assert (line["method"], line["path"], line["status"], line["model"]) == ("POST", TRANSCRIPTIONS, 200, "m")
    assert "a-probe" not in scripted.logged
