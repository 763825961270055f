"""The work queue: bursts become one pass, nothing runs twice at once, nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from roundhouse_operator import queue as queues
from roundhouse_operator.queue import RetryError, WorkQueue, retry_delay_seconds


@asynccontextmanager
async def running(
    queue: WorkQueue[str], handle: Callable[[str], Awaitable[None]], workers: int = 4
) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run(handle, workers=workers))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled(queue: WorkQueue[str], done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not (queue.idle and done()):  # noqa: ASYNC110  # the queue rings no bell
            await asyncio.sleep(0.005)


async def test_a_burst_is_one_pass() -> None:
    seen: Counter[str] = Counter()

    async def handle(key: str) -> None:
        seen[key] += 1

    queue: WorkQueue[str] = WorkQueue()
    for _ in range(100):
        queue.add("a")
        queue.add("b")
    async with running(queue, handle):
        await settled(queue, lambda: len(seen) == 2)
    assert seen == {"a": 1, "b": 1}


async def test_a_pass_that_waits_for_an_answer_is_in_work() -> None:
    """Neither due nor waiting: who asks for those alone takes half a pass for the end."""
    answer = asyncio.Event()
    queue: WorkQueue[str] = WorkQueue()

    async def handle(_key: str) -> None:
        assert (queue.depth, queue.running, queue.waiting, queue.failing) == (0, 1, 0, 0)
        await answer.wait()

    queue.add("a")
    assert (queue.depth, queue.running) == (1, 0)
    async with running(queue, handle):
        async with asyncio.timeout(60):
            while not queue.running:  # noqa: ASYNC110  # the queue rings no bell
                await asyncio.sleep(0.005)
        answer.set()
        await settled(queue, lambda: not queue.running)


async def test_passes_that_await_nothing_let_others_come_to_turn() -> None:
    turns = 0
    at: list[int] = []

    async def handle(_: str) -> None:
        at.append(turns)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    queue: WorkQueue[str] = WorkQueue()
    for number in range(100):
        queue.add(f"{number}")
    other = asyncio.create_task(others())
    async with running(queue, handle, workers=4):
        await settled(queue, lambda: len(at) == 100)
    other.cancel()
    assert at[-1] - at[0] >= 100 // 4 - 1


async def test_a_change_during_a_pass_brings_another_and_never_beside_it() -> None:
    at_once, most, passes = 0, 0, 0
    entered = asyncio.Event()

    async def handle(key: str) -> None:
        nonlocal at_once, most, passes
        at_once, passes = at_once + 1, passes + 1
        most = max(most, at_once)
        entered.set()
        await asyncio.sleep(0.01)
        at_once -= 1

    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    async with running(queue, handle):
        await entered.wait()
        queue.add("a")
        queue.add("a")
        await settled(queue, lambda: passes == 2)
    assert most == 1
    assert passes == 2


async def test_a_failed_key_comes_back_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "FIRST_DELAY_SECONDS", 0.01)
    passes: Counter[str] = Counter()

    async def handle(key: str) -> None:
        passes[key] += 1
        if key == "bad" and passes[key] == 1:
            raise ValueError("broken")
        if key == "bad":
            assert queue.failing == 1
        if key == "bad" and passes[key] == 2:
            raise RetryError("not yet")

    queue: WorkQueue[str] = WorkQueue()
    queue.add("bad")
    for name in "abc":
        queue.add(name)
    async with running(queue, handle, workers=1):
        await settled(queue, lambda: passes["bad"] == 3)
        await settled(queue, lambda: not queue.failing)
    assert passes == {"bad": 3, "a": 1, "b": 1, "c": 1}


async def test_a_pass_that_fails_and_touches_its_own_key_goes_in_no_circle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queues, "FIRST_DELAY_SECONDS", 60.0)
    monkeypatch.setattr(queues, "SOON_SECONDS", 0.2)
    at: list[float] = []

    async def handle(key: str) -> None:
        at.append(asyncio.get_running_loop().time())
        queue.add(key)
        raise RetryError("refused")

    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    async with running(queue, handle):
        await settled(queue, lambda: len(at) == 2)
    assert at[1] - at[0] > 0.15, "and comes back soon all the same"


async def test_a_change_overtakes_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "FIRST_DELAY_SECONDS", 60.0)
    passes = 0

    async def handle(key: str) -> None:
        nonlocal passes
        passes += 1
        if passes == 1:
            raise RetryError("in a minute")

    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    async with running(queue, handle):
        await settled(queue, lambda: passes == 1)
        queue.add("a")
        async with asyncio.timeout(30):
            await settled(queue, lambda: passes == 2)


async def test_soon_gathers_what_many_changes_concern(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "SOON_SECONDS", 1.5)
    passes = 0

    async def handle(key: str) -> None:
        nonlocal passes
        passes += 1

    queue: WorkQueue[str] = WorkQueue()
    async with running(queue, handle):
        for _ in range(10):
            queue.add_soon("engine")
            await asyncio.sleep(0)
        assert passes == 0
        await settled(queue, lambda: passes == 1)


async def test_age_tells_a_queue_that_stands_still() -> None:
    queue: WorkQueue[str] = WorkQueue()
    assert queue.oldest_seconds() == 0
    queue.add("a")
    await asyncio.sleep(0.02)
    assert queue.oldest_seconds() >= 0.02
    assert queue.depth == 1


def test_delays_double_up_to_a_minute() -> None:
    assert [retry_delay_seconds(failures, 0) for failures in (1, 2, 3)] == [0.25, 0.5, 1]
    assert retry_delay_seconds(99, 0) == 60
    assert 45 <= retry_delay_seconds(99, 1) < 60


async def test_a_key_that_is_told_when_to_come_back_does_not_come_earlier() -> None:
    """Neither by a change nor because other keys are hurried."""
    passes: list[float] = []
    loop = asyncio.get_running_loop()

    async def handle(_key: str) -> None:
        passes.append(loop.time())
        if len(passes) == 1:
            queue.add("a")
            raise RetryError("429", after_seconds=0.3)

    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    async with running(queue, handle):
        await settled(queue, lambda: len(passes) == 1)
        queue.add("a")
        queue.hurry()
        await settled(queue, lambda: len(passes) == 2)
    assert passes[1] - passes[0] >= 0.3


async def test_a_key_that_must_wait_is_not_lost_to_a_timer_that_fires_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Changes were being gathered for it when it was told to wait for longer than that."""
    monkeypatch.setattr(queues, "SOON_SECONDS", 0.1)
    passes = 0

    async def handle(_key: str) -> None:
        nonlocal passes
        passes += 1
        if passes == 1:
            queue.add_soon("a")
            raise RetryError("429", after_seconds=0.3)

    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    async with running(queue, handle):
        await settled(queue, lambda: passes == 2)


async def test_retries_that_wait_are_hurried_when_an_outage_is_over() -> None:
    passes = 0

    async def handle(_key: str) -> None:
        nonlocal passes
        passes += 1
        if passes < 6:
            raise RetryError("no answer")

    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    began = asyncio.get_running_loop().time()
    async with running(queue, handle):
        for number in range(1, 7):
            await settled(queue, lambda wanted=number: passes == wanted)  # type: ignore[misc]
            queue.hurry()
    assert asyncio.get_running_loop().time() - began < 2, "by themselves they take eight seconds"


async def test_what_fails_again_and_again_is_told_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal that lasts is in the log, with what was refused, and does not fill it."""
    monkeypatch.setattr(queues, "FIRST_DELAY_SECONDS", 0.0001)
    monkeypatch.setattr(queues, "LAST_DELAY_SECONDS", 0.0001)
    tries = 0

    async def handle(_: str) -> None:
        nonlocal tries
        tries += 1
        if tries <= 20:
            raise RetryError("403 Forbidden: so an admission wants it")

    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    with caplog.at_level("INFO", "roundhouse_operator.queue"):
        async with running(queue, handle):
            await settled(queue, lambda: tries == 21)
    told = [(one.levelname, one.args[1]) for one in caplog.records if isinstance(one.args, tuple)]
    assert told == [("INFO", 1), ("WARNING", 2), ("WARNING", 4), ("WARNING", 8), ("WARNING", 16)]
    assert "a is tried again, failed 16 times in a row: 403 Forbidden" in caplog.text


async def test_of_two_wishes_the_earlier_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    loop = asyncio.get_running_loop()
    queue.add_in("a", 300)
    queue.add_soon("a")
    assert queue._timers["a"].when() < loop.time() + 10, "a node's news does not wait for a retry of weights"
    queue.add_in("a", 300)
    assert queue._timers["a"].when() < loop.time() + 10
    assert queue.waiting == 1
    queue._timers["a"].cancel()
