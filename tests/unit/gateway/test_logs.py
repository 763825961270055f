"""Lines of the access log: the short way says what the long way says, and neither tells a key."""

import io
import json

import pytest

from roundhouse_gateway.exchange import Exchange
from roundhouse_gateway.logs import RequestLog, request_log
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.usage import NOTHING, Usage

SECRET = "a" * 40


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    stream = io.BytesIO()
    monkeypatch.setattr(request_log, "stream", stream)
    monkeypatch.setattr(RequestLog, "is_wanted", lambda _: True)
    return stream


def exchange(path: str = "/v1/chat/completions", *, note: str = "") -> Exchange:
    made = Exchange("POST", path, "a1", "10.0.0.9", route="/v1/chat/completions", model="qwen")
    made.note = note
    made.status, made.upload_bytes, made.key_id = 200, 12, "k1"
    made.first_byte = made.started + 0.25
    return made


@pytest.mark.parametrize("usage", [NOTHING, Usage(7, 0), Usage(0, 3), Usage(7, 3)])
def test_a_plain_line_says_what_any_other_does(stream: io.BytesIO, usage: Usage) -> None:
    metrics = Metrics(lambda: 0.0, lambda: 0)
    for note in ("", "noted"):
        made = exchange(note=note)
        made.usage = usage
        made.finish(metrics)
    plain, noted = (json.loads(line) for line in stream.getvalue().splitlines())
    assert noted.pop("note") == "noted"
    for line in (plain, noted):
        assert line.pop("time").endswith("+00:00")
        assert line.pop("seconds") >= 0
    assert plain == noted
    assert (plain["message"], plain["first_byte_seconds"]) == ("POST /v1/chat/completions 200", 0.25)
    assert plain.get("input_tokens", 0) == usage.input_tokens


def test_no_line_tells_a_key(stream: io.BytesIO) -> None:
    metrics = Metrics(lambda: 0.0, lambda: 0)
    by_path, by_id = exchange(f"/v1/rh_abc_{SECRET}"), exchange()
    by_id.request_id = f"rh_abc_{SECRET}"
    for made in (by_path, by_path, by_id):
        made.finish(metrics)
    said = stream.getvalue().decode()
    assert SECRET not in said
    assert said.count("rh_abc_…") == 3
