"""Who is in a batch, and batches at their edges: who leaves, work that cannot begin, spoiled texts."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import BinaryIO

import pytest

from roundhouse_engine.batching import Batcher, Outcome, _tokens
from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.events import Done, Event, Loaded, Stopped, Work
from roundhouse_engine.gathering import moment_seconds
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.pool import Pool
from roundhouse_engine.slot import Slot
from roundhouse_engine.text_events import Embedded, Spoiled, TextAsk, TextWork

ASK = TextAsk("m", TextWork.EMBED)


class Runner:
    """Tells what the test says; notes what it is told to compute."""

    def __init__(self) -> None:
        self.events_told: asyncio.Queue[Event] = asyncio.Queue()
        self.batches: list[list[str]] = []
        self.broken = False

    def tell(self, *events: Event) -> None:
        for event in events:
            self.events_told.put_nowait(event)

    async def events(self) -> AsyncGenerator[Event, None]:
        while True:
            yield await self.events_told.get()

    def begin(self, ask: Work, file: BinaryIO) -> None:  # noqa: ARG002
        if self.broken:
            raise OSError("too many open files")
        file.seek(0)
        self.batches.append(json.load(file)["items"])

    def cancel(self) -> None:
        self.tell(Stopped())

    def kill(self) -> None:
        raise AssertionError("it was stopped in time")

    def obituary(self) -> str:
        raise AssertionError("it never ends")


class Engine:
    """A pool of one slot, and its batcher, whose batches are of four texts and about a hundred tokens."""

    def __init__(self) -> None:
        self.runner = Runner()
        self.metrics = Metrics()
        self.pool = Pool([Slot(lambda: self.runner, 5, self.metrics)], self.metrics)
        self.batcher = self.pool.batcher = Batcher(self.pool, 4, 100, self.metrics)
        self.supervising = asyncio.create_task(self.pool.supervise())

    def ask(self, *items: str) -> asyncio.Task[list[Outcome | None]]:
        return asyncio.create_task(self.batcher.compute(ASK, items))

    async def begun(self, batches: int) -> None:
        async with asyncio.timeout(60):
            while len(self.runner.batches) < batches:  # noqa: ASYNC110 - has no event
                await asyncio.sleep(0)

    @property
    def cancelled(self) -> float:
        return self.metrics.registry.get_sample_value("roundhouse_engine_cancelled_total") or 0.0


@pytest.fixture
async def engine() -> AsyncGenerator[Engine, None]:
    made = Engine()
    made.runner.tell(Loaded(0.1))
    await made.pool.up()
    yield made
    made.supervising.cancel()
    await asyncio.gather(made.supervising, return_exceptions=True)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch waits for more for as long as the test takes."""
    monkeypatch.setattr("roundhouse_engine.gathering._MOMENT_SECONDS", 600.0)
    monkeypatch.setattr("roundhouse_engine.batching.GUESS_SECONDS", 1e6)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def serves(engine: Engine) -> None:
    """The next request is computed, whatever was before."""
    number = len(engine.runner.batches)
    asked = engine.ask("after")
    await engine.begun(number + 1)
    assert engine.runner.batches[-1] == ["after"]
    engine.runner.tell(Embedded(0, "v", 1), Done(0.1))
    assert await asyncio.wait_for(asked, 60) == [Embedded(0, "v", 1)]


async def test_who_is_in_a_batch_that_stops_of_itself_hears_of_it(engine: Engine) -> None:
    asked = engine.ask("one")
    await engine.begun(1)
    engine.runner.tell(Stopped())
    with pytest.raises(EngineError):
        await asyncio.wait_for(asked, 60)
    await serves(engine)


async def test_a_client_that_leaves_before_its_batch_begins_keeps_no_slot(engine: Engine) -> None:
    """It leaves in the very step of the loop in which the slot is handed to its batch."""
    asked = engine.ask("never")
    async with asyncio.timeout(60):
        while not engine.batcher._batches:  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
    (batch,) = engine.batcher._batches
    assert batch.task is not None
    batch.task.cancel()  # as the order does when it ends, here before the task's first step
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert engine.runner.batches == []
    await serves(engine)


async def test_who_has_left_is_not_computed(engine: Engine) -> None:
    first = engine.ask("first")
    await engine.begun(1)
    leaver, stays = engine.ask("leaver"), engine.ask("stays")
    await asyncio.sleep(0)
    # Both at once: the slot comes free, and one of those that wait is cancelled.
    engine.runner.tell(Embedded(0, "v", 1), Done(0.1))
    leaver.cancel()
    await first
    await engine.begun(2)
    assert engine.runner.batches[1] == ["stays"]
    engine.runner.tell(Embedded(0, "v", 1), Done(0.1))
    await stays


async def test_work_that_cannot_begin_is_an_answer_to_all_who_wait_for_it(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.runner.broken = True
    with pytest.raises(EngineError) as caught:
        await asyncio.wait_for(engine.ask("a", "b"), 60)
    assert (caught.value.problem.status, caught.value.problem.code) == (500, "engine_failure")
    assert "too many open files" in caplog.text
    engine.runner.broken = False
    await serves(engine)


async def test_a_batch_that_has_told_everything_is_not_cancelled(engine: Engine) -> None:
    asked = engine.ask("a")
    await engine.begun(1)
    engine.runner.tell(Embedded(0, "v", 1))
    await asyncio.wait_for(asked, 60)  # answered, though the batch has not said that it is done
    engine.runner.tell(Done(0.5))
    await serves(engine)
    assert engine.cancelled == 0
    told = engine.metrics.registry.get_sample_value("roundhouse_engine_compute_seconds_total", {"model": "m"})
    assert told == pytest.approx(0.6)


async def test_a_text_that_is_spoiled_ends_its_request_at_once(engine: Engine) -> None:
    """Seven others of its request are not computed for an answer that is lost."""
    asked = engine.ask(*(f"text {number}" for number in range(8)))
    await engine.begun(1)
    spoiled = Spoiled(1, invalid("It is too long.").problem)
    engine.runner.tell(spoiled)
    assert await asyncio.wait_for(asked, 60) == [None, spoiled, *[None] * 6]
    assert len(engine.runner.batches) == 1
    assert engine.cancelled == 1
    await serves(engine)


@pytest.mark.usefixtures("patient")
async def test_requests_that_come_one_after_the_other_are_one_batch(engine: Engine) -> None:
    asked = []
    for number in range(4):
        asked.append(engine.ask(f"text {number}"))
        await turns()
    await engine.begun(1)
    assert engine.runner.batches == [["text 0", "text 1", "text 2", "text 3"]]
    engine.runner.tell(*(Embedded(index, "v", 1) for index in range(4)), Done(0.1))
    await asyncio.gather(*asked)


@pytest.mark.usefixtures("patient")
async def test_those_that_are_answered_together_come_back_together(engine: Engine) -> None:
    """One that came too late for a batch has the others in its next one, and is not for ever alone."""
    asked = [engine.ask(name) for name in "abcd"]
    await engine.begun(1)
    late = engine.ask("late")
    engine.runner.tell(*(Embedded(index, "v", 1) for index in range(4)), Done(1e6))
    await asyncio.gather(*asked)
    await turns()
    again = [engine.ask(name) for name in "abc"]
    await engine.begun(2)
    assert engine.runner.batches[1] == ["late", "a", "b", "c"]
    engine.runner.tell(*(Embedded(index, "v", 1) for index in range(4)), Done(1e6))
    await asyncio.gather(late, *again)


@pytest.mark.usefixtures("patient")
async def test_who_leaves_while_a_batch_gathers_is_not_in_it(engine: Engine) -> None:
    leaver = engine.ask("leaver")
    await turns()
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    asked = [engine.ask(name) for name in "abcd"]
    await engine.begun(1)
    assert engine.runner.batches == [list("abcd")]
    engine.runner.tell(*(Embedded(index, "v", 1) for index in range(4)), Done(0.1))
    await asyncio.gather(*asked)


@pytest.mark.usefixtures("patient")
async def test_a_slot_that_dies_while_a_batch_gathers_is_waited_for(engine: Engine) -> None:
    asked = [engine.ask("a")]
    await turns()
    (slot,) = engine.pool._slots
    slot.up = False
    asked += [engine.ask(name) for name in "bcd"]
    await turns()
    assert engine.runner.batches == []
    engine.runner.tell(Loaded(0.1))
    await engine.begun(1)
    engine.runner.tell(*(Embedded(index, "v", 1) for index in range(4)), Done(0.1))
    await asyncio.gather(*asked)


@pytest.mark.parametrize(
    ("batch_seconds", "lost_seconds"), [(0.001, 0.00005), (0.02, 0.001), (0.04, 0.002), (60, 0.002)]
)
def test_a_lone_request_loses_little(batch_seconds: float, lost_seconds: float) -> None:
    """A twentieth of what it takes, and two milliseconds at most."""
    assert moment_seconds(batch_seconds) == pytest.approx(lost_seconds)


async def batches(engine: Engine, *asked: asyncio.Task[list[Outcome | None]]) -> list[list[str]]:
    """Those that it takes until all are answered, the first of them begun."""
    number = len(engine.runner.batches)

    def over() -> bool:
        return all(task.done() for task in asked)

    while not over():
        batch = engine.runner.batches[number - 1]
        engine.runner.tell(*(Embedded(index, "v", 1) for index in range(len(batch))), Done(0.0))
        async with asyncio.timeout(60):
            while len(engine.runner.batches) == number and not over():  # noqa: ASYNC110 - has no event
                await asyncio.sleep(0)
        number = len(engine.runner.batches)
    return engine.runner.batches


async def test_where_there_is_no_room_for_all_each_has_its_turn(engine: Engine) -> None:
    first = engine.ask("first")
    await engine.begun(1)
    asked = [engine.ask(f"{name}1", f"{name}2") for name in "abcdef"]
    await turns()
    found = await batches(engine, first, *asked)
    assert found[1:] == [["a1", "b1", "c1", "d1"], ["e1", "f1", "a2", "b2"], ["c2", "d2", "e2", "f2"]]


async def test_a_batch_is_of_so_many_tokens_and_all_have_as_many_of_them(engine: Engine) -> None:
    """Three long texts of one request are three batches, and those of others come between."""
    long = ["a" * 390, "b" * 390, "c" * 390]
    first = engine.ask("first")
    await engine.begun(1)
    asked = [engine.ask(*long), engine.ask(*"123456"), engine.ask("x" * 200, "y" * 200)]
    await turns()
    found = await batches(engine, first, *asked)
    assert found[1:] == [
        [long[0], "1", "2"],
        ["x" * 200, "3", "4", "5"],
        [long[1], "6"],
        ["y" * 200],
        [long[2]],
    ]


def test_long_documents_count_for_no_more_than_is_computed_of_them() -> None:
    """What a model takes of each is a part: a batch of 16,384 tokens has room for more than two of them."""
    assert _tokens(("red", "bird " * 20)) == 26
    assert _tokens(("red", "bird " * 100_000)) == 512
    assert _tokens("bird " * 2000) == 2501
