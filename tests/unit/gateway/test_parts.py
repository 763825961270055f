"""The smaller parts: load, spool, settings, envelope, and what a fault of the gateway looks like."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from roundhouse_gateway.access import Access, Blotter
from roundhouse_gateway.app import build_api
from roundhouse_gateway.endpoint_load import Load
from roundhouse_gateway.errors import NotReadyError, UploadTooLargeError, envelope
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.routes import Readiness
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.speech.audio_api import TRANSCRIPTIONS
from roundhouse_gateway.spool import Spool


def test_the_least_loaded_address_is_chosen_and_equals_take_turns() -> None:
    load = Load()
    with load.hold("a"), load.hold("a"), load.hold("b"):
        assert load.least(["a", "b"]) == "b"
        assert load.least(["a", "b", "c"]) == "c"
    assert {load.least(["a", "b"]) for _ in range(4)} == {"a", "b"}


def test_what_an_engine_tells_of_other_gateways_requests_counts_for_a_while() -> None:
    now = 100.0
    load = Load(lambda: now)
    with load.hold("a"):
        load.told("a", "3/4")
    load.told("b", "1/4")
    assert [load.of("a"), load.of("b")] == [2, 1]
    with load.hold("b"), load.hold("b"):
        assert load.least(["a", "b"]) == "a"
    now += 4
    load.told("b", "0/4")
    assert [load.of("a"), load.of("b")] == [2, 0]
    now += 2
    assert load.of("a") == 0, "what was told is old"


@pytest.mark.parametrize("header", [None, "", "busy", "-1/4", "9" * 40 + "/4", "1/4, 2/4"])
def test_an_engine_that_tells_nonsense_tells_nothing(header: str | None) -> None:
    load = Load()
    load.told("a", header)
    assert load.of("a") == 0


def test_a_spool_gives_its_room_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10)
    with spool.open() as file:
        file.write(b"12345")
        file.write(b"6789")
        assert b"".join(file.pieces()) == b"123456789"
        assert b"".join(file.pieces()) == b"123456789", "it can be sent again"
        assert list(tmp_path.iterdir()) == [], "the file has no name"
        with pytest.raises(UploadTooLargeError, match="may hold 10 bytes"):
            file.write(b"xx")
        with spool.open() as other, pytest.raises(NotReadyError, match="No room"):
            other.write(b"xx")
    assert spool.used_bytes == 0


def test_a_spool_whose_disk_is_gone_says_so(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "gone", 10)
    with pytest.raises(NotReadyError, match="refuses more"):
        spool.open()


def test_a_key_is_blotted_out_however_it_is_cut() -> None:
    said = b"no sk-sk-1 and sk-1, sk-"
    for first in range(len(said)):
        for second in range(first, len(said)):
            blotter = Blotter(Access(key="sk-1"))
            pieces = said[:first], said[first:second], said[second:]
            assert b"".join(map(blotter.feed, pieces)) + blotter.rest() == b"no sk-**** and ****, sk-"
    assert Blotter(Access(key="sk-1")).feed(b"data: ends\n\n") == b"data: ends\n\n", "nothing is held back"


def test_the_envelope_has_all_keys() -> None:
    body = json.loads(envelope("text", "kind"))
    assert body == {
        "error": {"message": "text", "type": "kind", "param": None, "code": None},
        "detail": "text",
    }


def test_settings_by_their_defaults_and_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().served_namespaces == (Settings().namespace,)
    monkeypatch.setenv("ROUNDHOUSE_GATEWAY_NAMESPACES", "b, a,,b")
    monkeypatch.setenv("ROUNDHOUSE_GATEWAY_ALIASES_ENABLED", "false")
    settings = Settings()
    assert settings.served_namespaces == ("b", "a")
    assert not settings.aliases_enabled


@pytest.mark.req("S0-6")
def test_the_default_model_is_auto_and_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().default_model == "auto"
    monkeypatch.setenv("ROUNDHOUSE_GATEWAY_DEFAULT_MODEL", "whisper-large-v3")
    assert Settings().default_model == "whisper-large-v3"


def test_a_setting_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_GATEWAY_PORT", "70000")
    with pytest.raises(ValidationError, match="port"):
        Settings()


async def test_a_fault_of_the_gateway_is_answered_in_shape_and_tells_nothing() -> None:
    async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a secret")

    registry = Registry(["models"], aliases_enabled=True)
    metrics = Metrics(registry.age_seconds, lambda: 0)
    app = build_api(Readiness(registry), metrics, {TRANSCRIPTIONS.path: faulty})
    sent = await call(app, "POST", "/v1/audio/transcriptions")
    assert sent[0]["status"] == 500
    headers = dict(sent[0]["headers"])
    assert headers[b"x-should-retry"] == b"false"
    body = json.loads(sent[1]["body"])
    assert body["error"]["code"] == "internal_error"
    assert headers[b"x-request-id"].decode() in body["error"]["message"]
    assert "secret" not in body["error"]["message"]


async def call(app: Any, method: str, path: str) -> list[Message]:
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "client": None,
        "headers": [],
        "query_string": b"",
        "server": None,
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent
