"""The text that Prometheus reads, and what bounds it."""

import asyncio
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from roundhouse_gateway import metrics as metrics_module
from roundhouse_gateway import series
from roundhouse_gateway.departed import KEPT_SECONDS, Departed
from roundhouse_gateway.exchange import Exchange
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.usage import NOTHING, Usage, read_usage

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def made() -> Metrics:
    return Metrics(lambda: 1.5, lambda: 7)


async def samples(metrics: Metrics) -> Samples:
    """By Prometheus' own reading of the text."""
    text = b"".join([piece async for piece in metrics.exposition()]).decode()
    return {
        (sample.name.removeprefix("roundhouse_gateway_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_counters_gauges_and_what_is_asked_when_read() -> None:
    metrics = made()
    metrics.requests("/v1/models", "200", "unknown", "").inc()
    metrics.requests("/v1/models", "200", "unknown", "").inc(2)
    with metrics.in_flight("/v1/x").track_inprogress():
        found = await samples(metrics)
    labels = {"route": "/v1/models", "code": "200", "model": "unknown", "key": ""}
    assert found["requests_total", frozenset(labels.items())] == 3
    assert found["in_flight_requests", frozenset({("route", "/v1/x")})] == 1
    assert found["snapshot_age_seconds", frozenset()] == 1.5
    assert found["models", frozenset()] == 7
    assert found["process_open_fds", frozenset()] > 0
    assert (await samples(metrics))["in_flight_requests", frozenset({("route", "/v1/x")})] == 0


async def test_a_histogram_adds_up() -> None:
    metrics = made()
    for seconds in (0.005, 0.2, 0.2, 1000):
        metrics.duration("r", "m").observe(seconds)
    found = await samples(metrics)

    def of(part: str, **labels: str) -> float:
        wanted = {"route": "r", "model": "m", **labels}
        return found[f"request_duration_seconds_{part}", frozenset(wanted.items())]

    assert [of("bucket", le=bound) for bound in ("0.005", "0.1", "0.25", "600.0", "+Inf")] == [1, 1, 3, 3, 4]
    assert of("count") == 4
    assert of("sum") == pytest.approx(1000.405)


async def test_a_label_may_hold_anything() -> None:
    metrics = made()
    odd = 'a"b\\c\nd{}é,='
    metrics.engine_errors(odd, "x").inc()
    found = await samples(metrics)
    assert found["engine_errors_total", frozenset({("model", odd), ("reason", "x")})] == 1


async def test_a_family_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MOST_SERIES", 10)
    metrics = made()
    for number in range(30):
        metrics.held(f"model-{number}").inc()
    assert (await samples(metrics))["held_requests", frozenset({("model", "other")})] == 20


def count_for(metrics: Metrics, model: str) -> None:
    metrics.tally("/v1/x", model, "").count(200, 0.1, 0.1)
    metrics.tally("/v1/x", model, "").used(Usage(input_tokens=3))


async def test_series_of_a_model_stay_for_a_while_after_it_and_are_let_go_then() -> None:
    metrics, now = made(), [0.0]
    departed = Departed(metrics, lambda: now[0])
    for model in ("stays", 'go"es', "unknown"):
        count_for(metrics, model)
    before = await samples(metrics)

    async def left(*published: str) -> set[str]:
        due = departed.due(published)
        metrics.let_go(due)
        return {value for _, labels in await samples(metrics) for name, value in labels if name == "model"}

    assert await left("stays") == {"stays", 'go"es', "unknown"}
    now[0] += KEPT_SECONDS - 1
    assert await left("stays", 'go"es') == {"stays", 'go"es', "unknown"}, "it came back"
    now[0] += KEPT_SECONDS - 1
    assert await left("stays") == {"stays", 'go"es', "unknown"}, "it has gone anew"
    now[0] += KEPT_SECONDS
    assert await left("stays") == {"stays", "unknown"}
    after = await samples(metrics)
    mine = {at for at in before if ("model", "stays") in at[1]}
    assert {at: before[at] for at in mine} == {at: after[at] for at in mine}
    count_for(metrics, 'go"es')
    assert await left("stays") == {"stays", 'go"es', "unknown"}, "it is counted again"


async def test_a_request_that_ends_long_after_its_model_has_gone_is_counted() -> None:
    metrics = made()
    tally = metrics.tally("/v1/x", "went", "")
    tally.count(200, 0.1, 0.1)
    metrics.let_go(["went"])
    late = Exchange("POST", "/v1/x", "id", route="/v1/x", model="went")
    late.status = 200
    late.finish(metrics, tally)
    found = await samples(metrics)
    labels = {"route": "/v1/x", "code": "200", "model": "went", "key": ""}
    assert found["requests_total", frozenset(labels.items())] == 1


def test_keys_are_named_until_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "MOST_KEYS", 2)
    metrics = made()
    assert [metrics.key("", ""), metrics.key("a", "Ann"), metrics.key("b", "")] == ["", "Ann", "b"]
    assert [metrics.key("c", "Cat"), metrics.key("a", "Bob")] == ["other", "Ann"]


def test_a_key_that_is_replaced_again_and_again_takes_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "MOST_KEYS", 2)
    monkeypatch.setattr(metrics_module, "MOST_KNOWN", 10)
    metrics = Metrics(lambda: 0, lambda: 0)
    assert {metrics.key(f"id-{number}", "Ann") for number in range(100)} == {"Ann"}
    assert [metrics.key("b", "Bob"), metrics.key("c", "Cat")] == ["Bob", "other"]
    assert len(metrics._keys) <= 10


async def test_a_scrape_of_very_many_series_lets_others_go_on() -> None:
    metrics = made()
    for number in range(10_000):
        metrics.duration("/v1/audio/transcriptions", f"model-{number}").observe(0.1)
    slices = 0
    gaps: list[float] = []

    async def others() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            gaps.append(time.perf_counter() - began)

    running = asyncio.create_task(others())
    async for _ in metrics.exposition():
        slices += 1
    running.cancel()
    assert slices > 20
    assert sorted(gaps)[len(gaps) // 2] < 0.05


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}', Usage(3, 4)),
        (b'{"usage":{"prompt_tokens":3,"total_tokens":3},"data":[1]}', Usage(3)),
        (b'{"usage":{"type":"tokens","input_tokens":14,"output_tokens":45}}', Usage(14, 45)),
        (b'{"text":"x","usage":{"type":"duration","seconds":9}}', Usage(audio_seconds=9.0)),
        (b'{"text":"x","duration":2.5}', Usage(audio_seconds=2.5)),
        (b'{"usage":null}', NOTHING),
        (b'{"usage":{"prompt_tokens":-3}}', NOTHING),
        (b'{"usage":"none"}', NOTHING),
        (b'{"usage":' + b"[" * 100_000, NOTHING),
        (b"\xff", NOTHING),
    ],
)
def test_what_answers_say_of_their_use(answer: bytes, usage: Usage) -> None:
    assert read_usage(answer) == usage


async def test_use_is_counted_by_model_and_key() -> None:
    metrics = made()
    metrics.tally("r", "m", "k").used(Usage(3, 4, 1.5))
    metrics.tally("s", "m", "k").used(NOTHING)
    found = await samples(metrics)
    assert found["tokens_total", frozenset({("model", "m"), ("kind", "input"), ("key", "k")})] == 3
    assert found["tokens_total", frozenset({("model", "m"), ("kind", "output"), ("key", "k")})] == 4
    assert found["audio_seconds_total", frozenset({("model", "m"), ("key", "k")})] == 1.5
