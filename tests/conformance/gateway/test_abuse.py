"""Crowds, and those who stay, stall and vanish: what was taken for them is given back; others are served."""

import os
import resource
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path

import pytest
from aiohttp import web

from roundhouse_api.keys import Grant, issue, read
from roundhouse_gateway.guard import Guard
from roundhouse_gateway.key_errors import InvalidKeyError
from roundhouse_gateway.keyring import Keyring
from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway.client import answer_on, field, file, form, random_audio, start_upload
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import Received
from tests.support.waiting import wait_until

Start = Callable[[Mapping[str, str]], World]
WHISPER = Variant("whisper")
MODEL = field("model", "whisper")
MOST = 10_000
AT_ONCE = 8
SPARE = 400
"""Descriptors that the tests and the gateway need beside connections."""


def descriptors(world: World) -> int:
    return len(list(Path(f"/proc/{world.gateway.process.pid}/fd").iterdir()))


def connections(world: World) -> float:
    return world.gateway.metric("roundhouse_gateway_connections")


def resident_mib(world: World) -> float:
    fields = Path(f"/proc/{world.gateway.process.pid}/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize() / (1 << 20)


def settled(world: World, before: int) -> None:
    """All that was opened is closed again; a few connections to the cluster may have changed."""
    wait_until(
        lambda: descriptors(world) <= before + 3,
        seconds=90,
        what=f"at most {before + 3} descriptors are open",
    )


@contextmanager
def many_descriptors() -> Iterator[int]:
    """As many as the machine lets this process have, for it and what it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + SPARE if hard == resource.RLIM_INFINITY else min(hard, MOST + SPARE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield max(soft, wanted)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_of_connections_that_say_nothing_or_too_little(own_world: Start) -> None:
    with many_descriptors() as most, ExitStack() as stack:
        count = min(MOST, most - SPARE)
        world = own_world({"CONNECTION_LIMIT": str(count), "HEADER_SECONDS": "40"})
        world.serve(WHISPER)
        before, memory = descriptors(world), resident_mib(world)
        address = ("127.0.0.1", world.gateway.port)
        crowd: list[socket.socket] = []
        for number in range(count - 20):
            crowd.append(stack.enter_context(socket.create_connection(address, timeout=60)))
            if number % 3:
                crowd[-1].sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Half: "[: number % 40])
        wait_until(
            lambda: connections(world) >= len(crowd), seconds=30, what="all are open at once", every=0.05
        )
        began = time.monotonic()
        assert world.gateway.transcribe(MODEL, file()).status == 200
        assert time.monotonic() - began < 30, "it does not wait until they are sent away"
        wait_until(lambda: descriptors(world) <= before + 30, seconds=120, what="they are all sent away")
        assert crowd[0].recv(64).startswith(b"HTTP/1.1 408 ")
        assert world.gateway.get("/v1/models").status == 200
        assert (resident_mib(world) - memory) * 1024 / count < 40, "KiB a connection"


def leave_in_the_middle_of_an_upload(world: World) -> None:
    with start_upload(world.gateway.port, MODEL + file(b"x" * 100_000), total=1_000_000):
        pass


def reset_in_the_middle_of_an_upload(world: World) -> None:
    with start_upload(world.gateway.port, MODEL + file(b"x" * 100_000), total=1_000_000) as sent:
        sent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def leave_while_it_is_answered(world: World) -> None:
    body = form(MODEL, file())
    with start_upload(world.gateway.port, body, total=len(body)):
        pass


def leave_a_form_whose_file_comes_first(world: World) -> None:
    with start_upload(world.gateway.port, file(b"x" * 300_000), total=1_000_000):
        pass


def send_garbage(world: World) -> None:
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as sent:
        sent.sendall(b"\x16\x03\x01" + os.urandom(5000))
        with suppress(ConnectionError):
            sent.recv(100)


def be_answered(world: World) -> None:
    with suppress(OSError, HTTPException):  # some engines break off, and so does the answer
        world.gateway.transcribe(MODEL, file(b"x" * 50_000))


def ask_for_nobody(world: World) -> None:
    world.gateway.transcribe(field("model", os.urandom(8).hex()), file())
    world.gateway.get(f"/v1/models/{os.urandom(8).hex()}")
    world.gateway.get(f"/{os.urandom(8).hex()}")


async def hang_up_in_the_body(request: web.Request, received: Received) -> web.StreamResponse:
    await request.content.readany()
    return await scripts.hang_up(request, received)


ENGINES: Mapping[str, scripts.Answer] = {
    "answers": scripts.transcript,
    "dies-before": scripts.hang_up,
    "dies-midway": scripts.hang_up_midway,
    "dies-in-the-body": hang_up_in_the_body,
    "talks-rubbish": scripts.raw(b"\x00\xff" * 500 + b"\r\n\r\n"),
    "answers-at-length": scripts.answering_at_length(300_000),
}


@pytest.mark.parametrize("manner", ENGINES, ids=str)
def test_nothing_is_left_of_those_who_leave_and_of_engines_that_die(world: World, manner: str) -> None:
    """Two engines, because the last one of a model that dies is waited for a while: another may be coming."""
    engines = (world.engine(), world.engine())
    world.serve(WHISPER, *engines)
    for each in engines:
        each.answer, each.read = ENGINES[manner], manner != "dies-in-the-body"
    acts = (
        leave_in_the_middle_of_an_upload,
        reset_in_the_middle_of_an_upload,
        leave_while_it_is_answered,
        leave_a_form_whose_file_comes_first,
        send_garbage,
        be_answered,
        ask_for_nobody,
    )
    before = descriptors(world) + 2 * AT_ONCE  # connections to the engines that are kept for the next request
    memory = 0.0
    for round_number in range(4):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for act in acts:
                list(pool.map(act, [world] * 12))
        if round_number == 1:
            settled(world, before)
            memory = resident_mib(world)
    settled(world, before)
    assert resident_mib(world) - memory < 15, "MiB, after everything had been done once"
    for gauge in ("spool_bytes", "in_flight_requests"):
        wait_until(
            lambda: world.gateway.metric(f"roundhouse_gateway_{gauge}") == 0,  # noqa: B023 - called at once
            seconds=30,
            what=f"{gauge} is 0",
        )
    wait_until(lambda: connections(world) <= 3, seconds=30, what="the connections are gone")
    for each in engines:
        each.answer, each.read = scripts.transcript, True
    assert world.gateway.transcribe(MODEL, file()).status == 200


@pytest.mark.impatient
def test_an_engine_that_accepts_and_neither_reads_nor_speaks(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        world.run(WHISPER, mute.getsockname()[1])
        before = descriptors(world)
        for parts in ((MODEL, file()), (MODEL, file(random_audio(8_000_000))), (file(), MODEL)):
            reply = world.gateway.transcribe(*parts)
            assert (reply.status, reply.error["code"]) == (504, "engine_timeout")
        settled(world, before)


@pytest.mark.impatient
def test_a_client_that_takes_nothing_of_its_answer_is_let_go(world: World) -> None:
    engine = world.serve(WHISPER)
    engine.answer = scripts.answering_at_length(30_000_000)
    body, before = form(MODEL, file()), descriptors(world)
    with start_upload(world.gateway.port, body, total=len(body)) as stuck:
        with answer_on(stuck) as response:
            assert response.status == 200
            wait_until(lambda: engine.gone, seconds=60, what="the engine is let go")
        settled(world, before)


def test_a_stalled_crowd_does_not_keep_others_waiting(world: World) -> None:
    world.serve(WHISPER)
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(start_upload(world.gateway.port, MODEL + file(b"x" * 1000), total=50_000))
        began = time.monotonic()
        for _ in range(10):
            assert world.gateway.transcribe(MODEL, file()).status == 200
        assert time.monotonic() - began < 50, "it does not wait until they are given up, after a minute"


def test_a_wrong_key_takes_as_long_whether_or_not_there_is_one_of_its_id() -> None:
    keyring, issued = Keyring(), issue(Grant())
    keyring._by_id = {issued.data["id"]: read({name: text.encode() for name, text in issued.data.items()})}
    keyring.complete = True
    guard = Guard(None, keyring, None, lambda: datetime.now(UTC), None)  # type: ignore[arg-type]
    wrong = "0" * 48
    texts = {"known": f"rh_{issued.data['id']}_{wrong}", "unknown": f"rh_nosuchkey000_{wrong}"}

    def ratio() -> float:
        taken: dict[str, list[float]] = {name: [] for name in texts}
        for _ in range(1000):
            for name, text in texts.items():
                began = time.perf_counter()
                with pytest.raises(InvalidKeyError):
                    guard.authenticate(text)
                taken[name].append(time.perf_counter() - began)
        known, unknown = (statistics.median(taken[name]) for name in texts)
        return known / unknown

    # What is a difference of the gateway's is one in each round; another may be the machine's.
    assert any(0.7 < ratio() < 1.4 for _ in range(5))


def test_many_guesses_at_once_are_all_refused(keyed: World) -> None:
    refused: list[int] = []

    def guess() -> None:
        for _ in range(50):
            headers = {"Authorization": f"Bearer rh_{os.urandom(6).hex()}_{os.urandom(24).hex()}"}
            refused.append(keyed.gateway.request("GET", "/v1/models", headers=headers).status)

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [401] * 400
