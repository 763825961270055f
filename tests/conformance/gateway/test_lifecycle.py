"""The end of a gateway, and what it writes down of its life."""

import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway import text_engine as texts
from tests.conformance.gateway.client import field, file
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.gate import Gate
from tests.conformance.gateway.manifests import Manifest, Variant
from tests.support.waiting import wait_until

PATH = "/v1/audio/transcriptions"
MODEL = field("model", "whisper")
Start = Callable[[Mapping[str, str]], World]


def test_sigterm_lets_running_requests_finish(own_world: Start) -> None:
    world = own_world({"DRAIN_DELAY_SECONDS": "600", "DRAIN_SECONDS": "60"})
    gate = Gate(world.serve(Variant("whisper")))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(world.gateway.transcribe, MODEL, file())
        gate.wait_for(1)
        world.gateway.process.terminate()
        wait_until(
            lambda: world.gateway.get("/readyz").body == b"draining\n",
            seconds=30,
            what="it is unready while it still listens",
            every=0.02,
        )
        world.gateway.process.terminate()  # the delay is over: it listens no more
        wait_until(lambda: not _listens(world), seconds=30, what="it listens no more", every=0.02)
        gate.open()
        assert running.result().status == 200
    assert world.gateway.process.wait(60) == 0
    assert world.gateway.log()[-1]["message"] == "ended"


def _listens(world: World) -> bool:
    try:
        socket.create_connection(("127.0.0.1", world.gateway.port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_request_that_outlasts_the_drain_is_cut(own_world: Start) -> None:
    world = own_world({"DRAIN_SECONDS": "1", "ENGINE_IDLE_SECONDS": "60"})
    engine = world.serve(Variant("whisper"))
    engine.answer = scripts.never
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(world.gateway.transcribe, MODEL, file())
        wait_until(lambda: engine.requests, seconds=30, what="the engine has the request", every=0.02)
        assert world.gateway.stop() == 0
        reply = running.result()
    assert (reply.status, reply.error["message"]) == (503, "The gateway is ending; send it again.")
    wait_until(lambda: engine.gone, seconds=30, what="the engine was told", every=0.02)


@pytest.mark.parametrize("fast", [True, False], ids=["lane", "ordinary"])
def test_a_stream_that_outlasts_the_drain_ends_with_an_error(own_world: Start, fast: bool) -> None:
    world = own_world({"DRAIN_SECONDS": "1", "ENGINE_IDLE_SECONDS": "60", "FAST_LANE": str(fast)})
    engine = world.serve(Variant("qwen", stage="Chat", languages=None))
    engine.answer = texts.chat
    if fast:
        texts.warm_up(world, "qwen", (engine,))
    engine.answer = texts.streaming(*texts.FRAMES[:2], then=texts.fall_silent)
    asked: Any = {"model": "qwen", "messages": [{"role": "user", "content": "Where?"}], "stream": True}
    with world.gateway.openai().chat.completions.create(**asked) as stream, ThreadPoolExecutor(1) as pool:
        events = iter(stream)
        next(events)
        ending = pool.submit(world.gateway.stop)
        with pytest.raises(openai.APIError, match="The gateway is ending"):
            list(events)
        assert ending.result() == 0


@pytest.mark.req("S0-23")
def test_the_access_log_tells_of_a_request_and_no_secret(world: World) -> None:
    world.serve(Variant("whisper"))
    before = len(world.gateway.log())
    secret = "sk-very-secret-key"  # noqa: S105 - the one that must not be seen
    world.gateway.transcribe(
        MODEL,
        field("prompt", "private words"),
        file(),
        headers={"Authorization": f"Bearer {secret}", "X-Request-Id": "trace-1", "Cookie": secret},
    )
    world.gateway.transcribe(field("model", "nonesuch"), file())

    def lines() -> list[Manifest]:
        return [line for line in world.gateway.log()[before:] if line.get("route") == PATH]

    wait_until(lambda: len(lines()) == 2, seconds=30, what="both are logged")
    first, second = lines()
    assert first["message"] == "POST /v1/audio/transcriptions 200"
    assert (first["model"], first["status"], first["request_id"]) == ("whisper", 200, "trace-1")
    assert first["upload_bytes"] > 16_000
    assert 0 < first["first_byte_seconds"] <= first["seconds"]
    assert second["status"] == 400
    assert second["note"].startswith("Engine 'nonesuch' not found")
    text = world.gateway.log_path.read_text()
    assert secret not in text
    assert "private words" not in text


def test_metrics_count_requests_by_model_and_route(world: World) -> None:
    world.serve(Variant("whisper"))
    labels = {"route": "/v1/audio/transcriptions", "model": "whisper"}
    counted = ("requests_total", "request_duration_seconds_count", "time_to_first_byte_seconds_count")
    before = [world.gateway.metric(f"roundhouse_gateway_{name}", **labels) for name in counted]
    for _ in range(3):
        world.gateway.transcribe(MODEL, file())

    def are_counted() -> bool:
        after = [world.gateway.metric(f"roundhouse_gateway_{name}", **labels) for name in counted]
        return [new - old for new, old in zip(after, before, strict=True)] == [3, 3, 3]

    wait_until(are_counted, seconds=30, what="all three are counted", every=0.02)
    assert world.gateway.metric("roundhouse_gateway_models") == 1
    world.gateway.get("/v1/models/whisper")
    world.gateway.get("/no/such/route")
    for route, code in (("/v1/models/{model_id}", "200"), ("other", "404")):
        _wait_for_a_count(world, route=route, code=code)


def _wait_for_a_count(world: World, **labels: str) -> None:
    wait_until(
        lambda: world.gateway.metric("roundhouse_gateway_requests_total", **labels),
        seconds=30,
        what=f"{labels} are counted",
        every=0.02,
    )


def test_the_log_can_be_text(own_world: Start) -> None:
    world = own_world({"LOG_FORMAT": "text"})
    world.gateway.get("/v1/models/x%0AINFO%20forged")
    world.gateway.get("/v1/models")
    line = "INFO    roundhouse.gateway.access: GET /v1/models 200 request_id="
    wait_until(lambda: line in world.gateway.log_path.read_text(), seconds=30, what="the line is written")
    forged = [each for each in world.gateway.log_path.read_text().splitlines() if each.startswith("INFO")]
    assert forged == [], "a path cannot write lines of its own"
