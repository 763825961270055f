"""Two workers of one gateway are one gateway: its limits, its metrics, its load, its tokens and its end."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from websockets.sync.client import connect

from roundhouse_api.keys import Grant, Scope, issue
from tests.conformance.gateway import client
from tests.conformance.gateway.conftest import World, a_world
from tests.conformance.gateway.gate import Gate
from tests.conformance.gateway.keys import KEYS, put
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.process import launch
from tests.conformance.gateway.scripted_engine import ScriptedEngine, transcript
from tests.conformance.gateway.test_hold import load_of
from tests.support.waiting import wait_until

WHISPER = Variant("whisper")
PATH = "/v1/audio/transcriptions"
BODY = client.form(client.field("model", WHISPER.id), client.file())
Start = Callable[[Mapping[str, str]], World]


@pytest.fixture(scope="module")
def shared_pair(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway of two workers that asks for keys, with an owner's."""
    settings = {"WORKERS": "2", "KEYS_NAMESPACE": KEYS}
    with a_world(loop_thread, tmp_path_factory.mktemp("workers"), settings) as world:
        world.gateway.key = key_for(world, Grant())
        serve(world, WHISPER)
        yield world


@pytest.fixture
def pair(shared_pair: World) -> World:
    shared_pair.engines[0].answer = transcript
    shared_pair.engines[0].requests.clear()
    return shared_pair


@contextmanager
def one_on_each(world: World) -> Iterator[list[HTTPConnection]]:
    """A kept connection to each of the two workers."""
    gateway = world.gateway
    wait_until(lambda: gateway.metric("roundhouse_gateway_connections") == 0, seconds=60, what="none is open")
    with ExitStack() as stack:
        found = []
        for _ in range(2):
            found.append(HTTPConnection("127.0.0.1", gateway.port, timeout=60))
            stack.callback(found[-1].close)
            assert ask(found[-1], "GET", "/healthz") == 200
        yield found


def serve(world: World, variant: Variant) -> ScriptedEngine:
    """One new engine behind the variant, known to both workers."""
    engine, path = world.serve(variant), f"/v1/models/{variant.id}"
    with one_on_each(world) as connections:
        for each in connections:
            wait_until(
                lambda each=each: b'"status":"running"' in read(each, "GET", path, world.gateway.key)[1],  # type: ignore[misc]
                seconds=60,
                what="the worker knows that the model runs",
                every=0.02,
            )
    return engine


def ask(connection: HTTPConnection, method: str, path: str, key: str = "", body: bytes = b"") -> int:
    return read(connection, method, path, key, body)[0]


def read(
    connection: HTTPConnection, method: str, path: str, key: str = "", body: bytes = b""
) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {key}", **(client.FORM_TYPE if body else {})}
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def key_for(world: World, grant: Grant) -> str:
    """A new key, known to both workers. It may not ask for what it is tried with, so nothing is counted."""
    name, scopes = f"key-{time.monotonic_ns()}", frozenset(Scope) - {Scope.USAGE}
    issued = issue(replace(grant, name=name, scopes=scopes))
    put(world, name, issued.data)
    with one_on_each(world) as connections:
        for each in connections:
            wait_until(
                lambda each=each: ask(each, "GET", "/metrics", issued.text) == 403,  # type: ignore[misc]
                seconds=60,
                what="the worker knows the key",
                every=0.02,
            )
    return issued.text


def workers_of(world: World) -> list[int]:
    pid = world.gateway.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.req("S1-5")
def test_a_minute_has_so_many_requests_over_both_workers(pair: World) -> None:
    limit = 60

    def attempt() -> list[int] | None:
        """None where a new minute began meanwhile."""
        key = key_for(pair, Grant(requests_per_minute=limit))
        minute = time.time() // 60

        def hammer(_: int) -> list[int]:
            with ExitStack() as stack:
                connection = HTTPConnection("127.0.0.1", pair.gateway.port, timeout=60)
                stack.callback(connection.close)
                return [ask(connection, "GET", "/v1/models", key) for _ in range(20)]

        with ThreadPoolExecutor(6) as threads:
            found = [status for each in threads.map(hammer, range(6)) for status in each]
        return found if time.time() // 60 == minute else None

    statuses = wait_until(attempt, seconds=120, what="one minute is enough")
    assert statuses
    assert (statuses.count(200), statuses.count(429)) == (limit, 120 - limit)


def test_a_key_has_so_many_requests_at_once_over_both_workers(pair: World) -> None:
    key, gate = key_for(pair, Grant(max_concurrent=3)), Gate(pair.engines[0])

    def transcribe(_: int) -> int:
        headers = {"Authorization": f"Bearer {key}", **client.FORM_TYPE}
        return client.request(pair.gateway.port, "POST", PATH, BODY, headers, seconds=60).status

    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(transcribe, number) for number in range(8)]

        def refused() -> bool:
            return [each.result() for each in asked if each.done()] == [429] * 5

        wait_until(refused, seconds=60, what="all but three are refused", every=0.02)
        gate.wait_for(3)
        gate.open()
    assert sorted(each.result() for each in asked) == [200] * 3 + [429] * 5
    with one_on_each(pair) as connections:
        for each in connections:
            assert ask(each, "GET", "/v1/models", key) == 200, "places are back in both"


def test_every_request_is_counted_once_whichever_worker_is_scraped(pair: World) -> None:
    key, name = key_for(pair, Grant(requests_per_minute=100_000)), "roundhouse_gateway_requests_total"
    labels = {"route": "/v1/models", "code": "200"}
    buckets = "roundhouse_gateway_request_duration_seconds_count"
    before = pair.gateway.metric(name, **labels), pair.gateway.metric(buckets, route="/v1/models")

    def several(_: int) -> None:
        with ExitStack() as stack:
            connection = HTTPConnection("127.0.0.1", pair.gateway.port, timeout=60)
            stack.callback(connection.close)
            assert [ask(connection, "GET", "/v1/models", key) for _ in range(25)] == [200] * 25

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(several, range(8)))

    def counted() -> bool:
        now = pair.gateway.metric(name, **labels), pair.gateway.metric(buckets, route="/v1/models")
        return [now[place] - before[place] for place in range(2)] == [200, 200]

    wait_until(counted, seconds=60, what="each was counted once", every=0.02)
    assert all(counted() for _ in range(4)), "the scrapes land on both workers"


def test_what_the_operator_reads_is_the_load_of_both(pair: World) -> None:
    gate = Gate(pair.engines[0])
    with load_of(pair) as load, one_on_each(pair) as connections, ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(ask, each, "POST", PATH, pair.gateway.key, BODY) for each in connections]
        load.wait(WHISPER.name, in_flight=2)
        assert pair.gateway.metric("roundhouse_gateway_in_flight_requests", route=PATH) == 2
        gate.open()
        assert [each.result() for each in asked] == [200, 200]
        load.wait(WHISPER.name)


def test_requests_of_both_wait_for_one_place_and_get_it_in_turn(pair: World) -> None:
    narrow = replace(WHISPER, name="narrow", max_in_flight=1, hold_seconds=60)
    engine, path = serve(pair, narrow), PATH
    body, gate = client.form(client.field("model", narrow.id), client.file()), Gate(engine)
    with load_of(pair) as load, one_on_each(pair) as connections, ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(ask, each, "POST", path, pair.gateway.key, body) for each in connections]
        load.wait(narrow.name, in_flight=1, held=1)
        gate.wait_for(1)
        gate.open()
        assert [each.result() for each in asked] == [200, 200]
        load.wait(narrow.name)


def test_a_token_is_good_in_another_worker_and_once_in_all(pair: World) -> None:
    with one_on_each(pair) as (connection, other):
        headers = {"Authorization": f"Bearer {pair.gateway.key}"}
        connection.request("POST", "/v1/single-use-token/realtime_scribe", b"", headers)
        token = json.loads(connection.getresponse().read())["token"]
        other.close()
        wait_until(
            lambda: pair.gateway.metric("roundhouse_gateway_connections") == 1,
            seconds=60,
            what="the other worker has no client",
        )
        url = f"ws://127.0.0.1:{pair.gateway.port}/v1/speech-to-text/realtime?model_id=none&token={token}"
        said = []
        for _ in range(2):
            with connect(url, open_timeout=60) as socket:
                said.append(json.loads(socket.recv(timeout=60))["message_type"])
    assert said == ["invalid_request", "auth_error"], "first it was the model that is not there"


def test_a_worker_that_dies_gives_back_what_it_had_and_is_replaced(pair: World) -> None:
    gate, gateway = Gate(pair.engines[0]), pair.gateway
    key = key_for(pair, Grant(max_concurrent=2))
    requests, route = "roundhouse_gateway_requests_total", "roundhouse_gateway_in_flight_requests"
    with load_of(pair), one_on_each(pair) as connections, ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(_ask_or_lose, each, key) for each in connections]
        gate.wait_for(2)
        assert gateway.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"}).status == 429
        before, victim = gateway.metric(requests), workers_of(pair)[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in workers_of(pair), seconds=60, what="it is gone", every=0.02)
        wait_until(lambda: gateway.metric(route, route=PATH) == 1, seconds=60, what="its gauge is back")
        assert gateway.get("/readyz").status == 200, "the other one serves"
        assert gateway.metric(requests) >= before
        assert gateway.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"}).status == 200
        gate.open()
        assert sorted(each.result() for each in asked) == [0, 200]
    wait_until(lambda: len(workers_of(pair)) == 2, seconds=60, what="another takes its place")
    assert gateway.metric("roundhouse_gateway_worker_restarts_total") == 1
    with one_on_each(pair) as connections:
        for each in connections:
            wait_until(
                lambda each=each: ask(each, "GET", "/v1/models", key) == 200,  # type: ignore[misc]
                seconds=60,
                what="both answer",
            )


def _ask_or_lose(connection: HTTPConnection, key: str) -> int:
    """0 where the connection was lost."""
    try:
        return ask(connection, "POST", PATH, key, BODY)
    except (OSError, HTTPException):
        return 0


def test_both_finish_what_they_have_before_the_gateway_ends(own_world: Start) -> None:
    world = own_world({"WORKERS": "2", "DRAIN_SECONDS": "60"})
    gate = Gate(serve(world, WHISPER))
    with load_of(world) as load, one_on_each(world) as (leaves, stays), ThreadPoolExecutor(1) as threads:
        leaves.request("POST", PATH, BODY, client.FORM_TYPE)
        asked = threads.submit(ask, stays, "POST", PATH, "", BODY)
        gate.wait_for(2)
        world.gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: _refuses(world), seconds=60, what="nothing new is taken", every=0.02)
        leaves.close()
        load.wait(WHISPER.name, in_flight=1)
        assert world.gateway.metric("roundhouse_gateway_in_flight_requests", route=PATH) == 1, (
            "by a new connection"
        )
        beats = load.beats
        wait_until(lambda: load.beats > beats + 1, seconds=60, what="the load is told on", every=0.02)
        gate.open()
        assert asked.result() == 200
    assert world.gateway.process.wait(60) == 0


def _refuses(world: World) -> bool:
    try:
        world.gateway.get("/healthz")
    except ConnectionError:
        return True
    return False


def test_workers_that_cannot_start_end_the_gateway_and_say_why(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("{}")
    gateway = launch(tmp_path, kubeconfig, {"WORKERS": "2"})
    try:
        assert gateway.process.wait(60) == 2
    finally:
        gateway.kill()
    said = gateway.log_path.read_text()
    assert "no way to the API server" in said
    assert "before it was up; ending" in said


def test_workers_end_with_a_supervisor_that_is_killed(loop_thread: LoopThread, tmp_path: Path) -> None:
    with a_world(loop_thread, tmp_path, {"WORKERS": "2"}) as world:
        workers = workers_of(world)
        world.gateway.process.kill()
        wait_until(lambda: not any(map(_runs, workers)), seconds=60, what="no worker is left", every=0.05)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
