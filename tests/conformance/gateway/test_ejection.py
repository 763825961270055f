"""One endpoint of several fails, and still stands in the slice: the others get what they can answer.

Times are the gateway's own: from how long a test took follows how often an endpoint can have been probed.
"""

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress

import pytest
from aiohttp import web

from roundhouse_gateway.ejection import FIRST_SECONDS, MOST_ERRORS
from tests.conformance.engine.streaming import streaming
from tests.conformance.gateway import scripted_engine as engines
from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.client import field as text
from tests.conformance.gateway.client import file
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.gate import Gate
from tests.conformance.gateway.manifests import Variant, slice_of
from tests.conformance.gateway.rests import most_tries
from tests.conformance.gateway.scripted_engine import ScriptedEngine, answering
from tests.support.waiting import wait_until

CHAT = Variant("qwen", stage="Chat", languages=None)
WHISPER = Variant("whisper")
LIVE = Variant("live", streaming="Chunked", interfaces=("Batch", "Realtime"))
CALLERS = 8
DELTA = scripts.frame({"type": "transcript.text.delta", "delta": "go"})
FAILING = answering(500, {"error": {"message": "CUDA error", "type": "server_error"}})

Ask = Callable[[World], int]


@pytest.fixture
def world(either_world: World) -> World:
    return either_world


def chat(world: World, **members: object) -> int:
    body = json.dumps({"model": CHAT.id, "messages": [], **members}).encode()
    sent = {"Content-Type": "application/json"}
    return world.gateway.request("POST", "/v1/chat/completions", body, sent).status


def transcribe(world: World) -> int:
    return world.gateway.transcribe(text("model", WHISPER.id), file()).status


def upload(world: World) -> int:
    """By the ordinary route, also where there is a lane."""
    return world.gateway.transcribe(
        text("model", WHISPER.id), file(), headers={"traceparent": "not for the fast lane"}
    ).status


def stream_chat(world: World) -> int:
    return chat(world, stream=True)


def stream_transcript(world: World) -> int:
    form = (text("model", WHISPER.id), text("stream", "true"), file())
    return world.gateway.transcribe(*form, headers={"traceparent": "not for the fast lane"}).status


CALLS = pytest.mark.parametrize(
    ("variant", "ask"),
    [(CHAT, chat), (WHISPER, transcribe), (WHISPER, upload)],
    ids=lambda each: each.__name__ if callable(each) else each.id,
)


def serve(world: World, variant: Variant, *behind: ScriptedEngine) -> None:
    world.serve(variant, *behind)
    if world.fast and variant is CHAT:
        scripts.warm_up(world, variant.id, behind)


def good_answer(variant: Variant) -> engines.Answer:
    return scripts.chat if variant is CHAT else engines.transcript


def metric(world: World, name: str, variant: Variant, **labels: str) -> float:
    return world.gateway.metric(f"roundhouse_gateway_{name}", model=variant.id, **labels)


@CALLS
def test_one_that_answers_500_at_once_does_not_get_what_the_other_would_answer(
    world: World, variant: Variant, ask: Ask
) -> None:
    bad, good = world.engine(), world.engine()
    bad.answer = FAILING
    serve(world, variant, bad, good)
    gate, begun = Gate(good, then=good_answer(variant)), time.monotonic()
    with ThreadPoolExecutor(CALLERS) as pool:
        replies = [pool.submit(ask, world) for _ in range(100)]
        gate.wait_for(CALLERS)  # all that ask wait for it: nothing goes to the other any more
        gate.open()
        seen = Counter(reply.result() for reply in replies)
    assert seen[500] == len(bad.requests)
    assert len(bad.requests) <= MOST_ERRORS + CALLERS + most_tries(time.monotonic() - begun)
    assert seen[200] == 100 - seen[500]


@CALLS
def test_two_that_break_off_at_once_do_not_get_what_the_third_would_answer(
    world: World, variant: Variant, ask: Ask
) -> None:
    behind = [world.engine() for _ in range(3)]
    bad, good = behind[:2], behind[2]
    for each in bad:
        each.answer = engines.hang_up
    serve(world, variant, *behind)
    gate, begun = Gate(good, then=good_answer(variant)), time.monotonic()
    with ThreadPoolExecutor(CALLERS) as pool:
        replies = [pool.submit(ask, world) for _ in range(100)]
        gate.wait_for(CALLERS)
        gate.open()
        seen = Counter(reply.result() for reply in replies)
    probes = 2 * most_tries(time.monotonic() - begun)
    assert sum(len(each.requests) for each in bad) <= 2 * CALLERS + probes
    if variant is CHAT:  # a form that has begun to be read cannot be sent again
        assert seen[502] <= CALLERS, "a probe that breaks off is answered by another"
    assert seen[200] == 100 - seen[502]


@contextmanager
def dead_node() -> Iterator[int]:
    """A port that answers no SYN, as that of a node that is gone."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port: int = listening.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(("127.0.0.1", port))
        yield port
        for each in waiting:
            each.close()


@pytest.mark.impatient
@CALLS
def test_requests_do_not_wait_again_and_again_for_a_node_that_is_gone(
    world: World, variant: Variant, ask: Ask
) -> None:
    good = world.engine()
    good.answer = good_answer(variant)
    before = metric(world, "engine_errors_total", variant, reason="unreachable")
    with dead_node() as port:
        begun = time.monotonic()
        world.run(variant, good.port, port)
        assert {ask(world) for _ in range(30)} == {200}
        tried = metric(world, "engine_errors_total", variant, reason="unreachable") - before
        assert 1 <= tried <= most_tries(time.monotonic() - begun)


@CALLS
def test_one_that_works_again_gets_its_part_again(world: World, variant: Variant, ask: Ask) -> None:
    bad, good = world.engine(), world.engine()
    good.answer, bad.answer = good_answer(variant), FAILING
    serve(world, variant, bad, good)
    ejections = metric(world, "ejections_total", variant)

    def rests() -> bool:
        ask(world)
        return metric(world, "resting_endpoints", variant) == 1

    wait_until(rests, seconds=60, what="it is passed over", every=0.01)
    assert metric(world, "ejections_total", variant) == ejections + 1
    bad.answer = good.answer

    def works() -> bool:
        assert ask(world) == 200
        return metric(world, "resting_endpoints", variant) == 0

    wait_until(works, seconds=60, what="it was probed", every=0.01)
    asked = len(bad.requests)
    assert [ask(world) for _ in range(10)] == [200] * 10
    assert len(bad.requests) == asked + 5, "they take turns"
    told = [line for line in world.gateway.log_path.read_text().splitlines() if f":{bad.port} " in line]
    assert ["answers again" in line for line in told] == [False, True]


@CALLS
def test_a_probe_is_one_request(world: World, variant: Variant, ask: Ask) -> None:
    bad, good = world.engine(), world.engine()
    good.answer, bad.answer = good_answer(variant), engines.hang_up
    serve(world, variant, bad, good)
    wait_until(
        lambda: ask(world) == 200 and metric(world, "resting_endpoints", variant),
        seconds=60,
        what="it is passed over",
        every=0.01,
    )
    bad.requests.clear()
    gate = Gate(bad, then=good_answer(variant))
    with ThreadPoolExecutor(CALLERS) as pool:
        replies = []

        def probed() -> bool:
            replies.append(pool.submit(ask, world))
            return bool(bad.requests)

        wait_until(probed, seconds=60, what="it is probed", every=0.05)
        answered = len(good.requests)
        assert {pool.submit(ask, world).result() for _ in range(20)} == {200}
        assert len(bad.requests) == 1
        assert len(good.requests) >= answered + 20
        gate.open()
        assert {reply.result() for reply in replies} == {200}


@pytest.mark.parametrize(
    ("variant", "ask", "begun"),
    [(CHAT, stream_chat, scripts.FRAMES[1]), (WHISPER, stream_transcript, DELTA)],
    ids=["chat", "upload"],
)
def test_a_probe_that_streams_is_answered_once_its_stream_has_begun(
    world: World, variant: Variant, ask: Ask, begun: bytes
) -> None:
    bad, good = world.engine(), world.engine()
    good.answer, bad.answer = scripts.streaming(begun), engines.hang_up
    serve(world, variant, bad, good)
    wait_until(
        lambda: ask(world) and metric(world, "resting_endpoints", variant),
        seconds=60,
        what="it is passed over",
        every=0.01,
    )
    end = threading.Event()

    async def stream(request: web.Request, _: engines.Received) -> web.StreamResponse:
        response = await scripts.stream(request, [begun])
        while not end.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.01)
        return response

    bad.answer = stream
    bad.requests.clear()
    with ThreadPoolExecutor(CALLERS) as pool:

        def probed() -> bool:
            pool.submit(ask, world)
            return bool(bad.requests)

        wait_until(probed, seconds=60, what="it is probed", every=0.05)
        wait_until(
            lambda: metric(world, "resting_endpoints", variant) == 0,
            seconds=60,
            what="it does not rest any more",
            every=0.01,
        )
        end.set()


@CALLS
def test_one_that_has_no_other_beside_it_gets_all_requests_still(
    world: World, variant: Variant, ask: Ask
) -> None:
    bad = world.engine()
    bad.answer = FAILING
    serve(world, variant, bad)
    assert [ask(world) for _ in range(3 * MOST_ERRORS)] == [500] * 3 * MOST_ERRORS
    assert len(bad.requests) == 3 * MOST_ERRORS
    assert metric(world, "resting_endpoints", variant) == 1
    bad.answer = good_answer(variant)
    assert ask(world) == 200
    assert metric(world, "resting_endpoints", variant) == 0


def test_a_full_one_has_the_word_and_not_one_that_fails(world: World) -> None:
    busy, bad = world.engine(), world.engine()
    busy.answer, bad.answer = scripts.chat, FAILING
    serve(world, CHAT, busy, bad)

    def rests() -> bool:
        chat(world)
        return metric(world, "resting_endpoints", CHAT) == 1

    wait_until(rests, seconds=60, what="it is passed over", every=0.01)
    busy.answer = answering(429, {}, {"X-Roundhouse-Reason": "full"})
    failed, begun = len(bad.requests), time.monotonic()
    seen = Counter(chat(world) for _ in range(10))
    assert seen[500] == len(bad.requests) - failed <= most_tries(time.monotonic() - begun)
    assert seen[429] == 10 - seen[500]


def test_errors_that_are_the_requests_or_that_say_when_to_come_again_are_no_failures(world: World) -> None:
    one, other = world.engine(), world.engine()
    serve(world, CHAT, one, other)
    for status, headers in ((400, {}), (404, {}), (429, {}), (501, {}), (503, {"Retry-After": "1"})):
        one.answer = answering(status, {}, headers)
        other.answer = scripts.chat
        one.requests.clear()
        for _ in range(4 * MOST_ERRORS):
            chat(world)
        assert len(one.requests) == 2 * MOST_ERRORS, f"of {status}"
    assert metric(world, "resting_endpoints", CHAT) == 0


def test_answers_that_break_off_in_the_middle_are_failures(world: World) -> None:
    bad, good = world.engine(), world.engine()
    good.answer, bad.answer = scripts.chat, engines.hang_up_midway
    serve(world, CHAT, bad, good)
    begun, before = time.monotonic(), metric(world, "ejections_total", CHAT)

    def is_probed_again() -> bool:
        with suppress(Exception):
            chat(world)
        return len(bad.requests) == 3

    wait_until(is_probed_again, seconds=60, what="it is probed twice", every=0.01)
    assert time.monotonic() - begun >= 3 * FIRST_SECONDS, "the second rest is twice as long"
    assert metric(world, "ejections_total", CHAT) == before + 1


def test_conversations_of_one_that_fails_go_to_the_next_on_the_ring_and_back(world: World) -> None:
    spec = {"loadBalancing": {"type": "PrefixHash", "prefixHash": {"prefixCharacters": 64}}}
    behind = [world.engine() for _ in range(3)]
    for each in behind:
        each.answer = scripts.chat
    serve(world, Variant("qwen", stage="Chat", languages=None, spec=spec), *behind)

    def say() -> int:
        return chat(world, messages=[{"role": "system", "content": "you are " * 20}])

    for each in behind:
        each.requests.clear()
    assert say() == 200
    (bad,) = [each for each in behind if each.requests]
    bad.answer = engines.hang_up
    assert [say() for _ in range(3)] == [200] * 3
    (instead,) = [each for each in behind if each.requests and each is not bad]
    bad.answer = scripts.chat

    def is_back() -> bool:
        before = len(instead.requests)
        assert say() == 200
        return len(instead.requests) == before

    wait_until(is_back, seconds=60, what="the conversation is back", every=0.05)
    assert [say() for _ in range(3)] == [200] * 3
    assert sum(bool(each.requests) for each in behind) == 2
    assert is_back()


def test_one_that_leaves_and_comes_back_begins_anew(world: World) -> None:
    bad, good = world.engine(), world.engine()
    good.answer, bad.answer = scripts.chat, engines.hang_up
    serve(world, CHAT, bad, good)
    wait_until(
        lambda: chat(world) == 200 and metric(world, "resting_endpoints", CHAT),
        seconds=60,
        what="it is passed over",
        every=0.01,
    )
    world.api.put("endpointslices", slice_of(CHAT.name, good.port, suffix="0"))
    wait_until(
        lambda: metric(world, "resting_endpoints", CHAT) == 0,
        seconds=60,
        what="its leaving is known",
        every=0.01,
    )


async def test_sessions_go_where_they_are_taken(world: World) -> None:
    bad, good = world.engine(), world.engine()
    bad.admit = lambda _: web.Response(status=500)

    async def talk(_: web.Request, opened: web.WebSocketResponse) -> None:
        async for _message in opened:
            pass

    good.talk = talk
    world.serve(LIVE, bad, good)
    begun = time.monotonic()
    async with AsyncExitStack() as sessions:
        for _ in range(20):
            await sessions.enter_async_context(streaming(world.gateway.port, {"model": LIVE.id}))
    assert len(bad.requests) <= MOST_ERRORS + most_tries(time.monotonic() - begun)
    assert len(good.requests) == 20 - len(bad.requests)
