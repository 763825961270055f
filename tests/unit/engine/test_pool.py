"""Admission, cancellation and death of slots, with runners that do what the test says."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from typing import BinaryIO, TypeVar

import pytest
from starlette.types import Message
from typing_extensions import override

from roundhouse_engine import lease as lease_module
from roundhouse_engine import pool as pool_module
from roundhouse_engine import slot as slot_module
from roundhouse_engine.app import _Views
from roundhouse_engine.door import expose
from roundhouse_engine.errors import EngineError, Refusal, invalid, model_failed
from roundhouse_engine.events import (
    Ask,
    Done,
    Event,
    Failed,
    Found,
    Loaded,
    LoadFailed,
    Loading,
    Started,
    Stopped,
    Work,
)
from roundhouse_engine.formats import Segment
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.pool import Pool
from roundhouse_engine.realtime import Realtime
from roundhouse_engine.settings import read_settings
from roundhouse_engine.slot import Slot
from roundhouse_engine.speech import SpeechOptions
from roundhouse_engine.stream_ask import read_stream_ask
from tests.conformance.engine.handlers import Live
from tests.conformance.engine.text_handlers import Vectors
from tests.support.waiting import eventually

T = TypeVar("T")
ASK = Ask("m", SpeechOptions(), 60)
FILE: BinaryIO = None  # type: ignore[assignment] # these runners read none


class ScriptedRunner:
    """Tells what the test says; notes what it is told."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self.begun = 0
        self.cancelled = 0
        self.killed = False
        self.broken = False

    def tell(self, *events: Event) -> None:
        for event in events:
            self._events.put_nowait(event)

    def die(self) -> None:
        self._events.put_nowait(None)

    async def events(self) -> AsyncGenerator[Event, None]:
        while (event := await self._events.get()) is not None:
            yield event

    def begin(self, ask: Work, file: BinaryIO) -> None:  # noqa: ARG002
        if self.broken:
            raise OSError("too many open files")
        self.begun += 1

    def cancel(self) -> None:
        self.cancelled += 1

    def kill(self) -> None:
        self.killed = True
        self.die()

    def obituary(self) -> str:
        return "killed by SIGKILL"


class Engine:
    """A pool over scripted runners; `runners` grows with each start."""

    def __init__(self, slots: int = 1, cancel_seconds: float = 5) -> None:
        self.runners: list[ScriptedRunner] = []
        self.metrics = Metrics()
        self.pool = Pool(
            [Slot(self._launch, cancel_seconds, self.metrics) for _ in range(slots)], self.metrics
        )
        self.supervising = asyncio.create_task(self.pool.supervise())

    def _launch(self) -> ScriptedRunner:
        self.runners.append(ScriptedRunner())
        return self.runners[-1]

    async def up(self, number: int = 0) -> ScriptedRunner:
        await until(lambda: len(self.runners) > number)
        before = self.pool.capacity
        self.runners[number].tell(Loaded(0.1))
        await until(lambda: self.pool.capacity > before)
        return self.runners[number]

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"roundhouse_engine_{name}", labels) or 0.0


@pytest.fixture
async def engine() -> "AsyncGenerator[Engine, None]":
    made = Engine()
    yield made
    made.supervising.cancel()
    await asyncio.gather(made.supervising, return_exceptions=True)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


@contextlib.contextmanager
def refusal(reason: Refusal) -> Iterator[None]:
    with pytest.raises(EngineError) as caught:
        yield
    assert caught.value.problem.reason is reason


async def test_refused_until_a_model_is_loaded(engine: Engine) -> None:
    with refusal(Refusal.LOADING):
        engine.pool.admit()
    await until(lambda: engine.runners)
    engine.runners[0].tell(Loading("m", 0.4))
    await until(lambda: engine.pool.progress("m") == 0.4)
    assert not engine.pool.ready
    await engine.up()
    assert engine.pool.ready
    assert engine.value("refused_total", reason="loading") == 1


async def test_full_when_every_slot_is_taken_also_by_uploads(engine: Engine) -> None:
    await engine.up()
    with engine.pool.admit():
        assert (engine.pool.in_use, engine.pool.capacity) == (1, 1)
        with refusal(Refusal.FULL):
            engine.pool.admit()
    with engine.pool.admit():
        pass


async def test_draining_refuses_and_ends_with_the_last_request(engine: Engine) -> None:
    await engine.up()
    lease = engine.pool.admit()
    engine.pool.draining = True
    drained = asyncio.create_task(engine.pool.drained())
    with refusal(Refusal.DRAINING):
        engine.pool.admit()
    assert not engine.pool.ready
    assert not drained.done()
    with lease:
        pass
    await asyncio.wait_for(drained, 60)


async def test_events_of_a_request_in_order(engine: Engine) -> None:
    runner = await engine.up()
    events: list[Event] = [Started(2.0), Found(Segment(0, 1, "a")), Done(0.2)]
    with engine.pool.admit() as lease:
        work = lease.compute(ASK, FILE)
        runner.tell(*events)
        assert [event async for event in work] == events
    assert (runner.begun, runner.cancelled) == (1, 0)


async def leave(engine: Engine, runner: ScriptedRunner) -> None:
    """A request whose client leaves once it has begun."""
    with engine.pool.admit() as lease:
        async with contextlib.aclosing(lease.compute(ASK, FILE)) as work:
            runner.tell(Started(1.0))
            assert await anext(work) == Started(1.0)


async def test_a_cancelled_slot_is_taken_until_its_work_has_stopped(engine: Engine) -> None:
    runner = await engine.up()
    await leave(engine, runner)
    assert runner.cancelled == 1
    assert engine.pool.in_use == 1
    with refusal(Refusal.FULL):
        engine.pool.admit()
    runner.tell(Stopped())
    await until(lambda: engine.pool.in_use == 0)
    assert not runner.killed
    assert engine.value("cancelled_total") == engine.value("cancel_seconds_count") == 1


async def test_work_that_does_not_stop_is_ended_and_started_anew() -> None:
    engine = Engine(cancel_seconds=0.01)
    runner = await engine.up()
    await leave(engine, runner)
    await until(lambda: runner.killed)
    await until(lambda: len(engine.runners) == 2)
    assert engine.pool.in_use == 0
    await engine.up(1)
    engine.supervising.cancel()


async def test_a_finished_request_never_cancels_the_next_one(engine: Engine) -> None:
    """The first client leaves after its work was done, when the slot already works for the second."""
    runner = await engine.up()
    first = engine.pool.admit().compute(ASK, FILE)
    runner.tell(Started(1.0), Done(0.1))
    await anext(first)
    slot = engine.pool._slots[0]
    await until(lambda: not slot.busy)
    second = slot.compute(ASK, FILE)
    runner.tell(Started(2.0))
    assert await anext(second) == Started(2.0)
    await first.aclose()
    assert runner.cancelled == 0
    await second.aclose()
    assert runner.cancelled == 1


async def test_death_fails_its_request_alone_and_the_slot_comes_back(engine: Engine) -> None:
    runner = await engine.up()
    with engine.pool.admit() as lease:
        work = lease.compute(ASK, FILE)
        runner.die()
        with pytest.raises(EngineError) as caught:
            await anext(work)
    assert (caught.value.problem.status, caught.value.problem.code) == (500, "engine_process_died")
    assert "SIGKILL" in caught.value.problem.message
    assert not engine.pool.ready
    await engine.up(1)
    assert engine.pool.ready


async def test_one_dead_slot_of_two_leaves_the_engine_ready() -> None:
    engine = Engine(slots=2)
    await engine.up(0)
    await engine.up(1)
    engine.runners[0].die()
    await until(lambda: engine.pool.capacity == 1)
    assert engine.pool.ready
    engine.supervising.cancel()


async def test_a_slot_that_dies_during_the_upload_refuses_what_was_admitted(engine: Engine) -> None:
    runner = await engine.up()
    with engine.pool.admit() as lease:
        runner.die()
        await until(lambda: engine.pool.capacity == 0)
        with refusal(Refusal.LOADING):
            await anext(lease.compute(ASK, FILE))


async def test_models_that_cannot_be_loaded_end_the_engine_with_the_reason(engine: Engine) -> None:
    await until(lambda: engine.runners)
    engine.runners[0].tell(LoadFailed("'m' has no weights in /models"))
    assert await asyncio.wait_for(engine.supervising, 60) == "'m' has no weights in /models"


def _has(engine: Engine, number: int) -> bool:
    return len(engine.runners) > number


async def test_a_process_that_never_gets_ready_is_given_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_module, "_RESTART_SECONDS", 0.01)
    for number in range(3):
        await until(partial(_has, engine, number))
        engine.runners[number].die()
    assert "died 3 times before it was ready" in await asyncio.wait_for(engine.supervising, 60)


async def test_eviction_answers_what_is_still_computed(engine: Engine) -> None:
    await engine.up()
    with engine.pool.admit() as lease:
        work = lease.compute(ASK, FILE)
        beginning = asyncio.ensure_future(anext(work))
        await until(lambda: engine.runners[0].begun)
        engine.pool.evict()
        with refusal(Refusal.DRAINING):
            await beginning


async def test_a_failed_request_frees_its_slot(engine: Engine) -> None:
    runner = await engine.up()
    with engine.pool.admit() as lease:
        runner.tell(Failed(invalid("no audio", param="file").problem))
        with pytest.raises(EngineError, match="no audio"):
            _ = [event async for event in lease.compute(ASK, FILE)]
    assert engine.pool.in_use == 0


async def test_work_that_cannot_begin_leaves_its_slot_free(engine: Engine) -> None:
    runner = await engine.up()
    runner.broken = True
    with engine.pool.admit() as lease, pytest.raises(OSError, match="too many"):
        await anext(lease.compute(ASK, FILE))
    assert engine.pool.in_use == 0
    runner.broken = False
    runner.tell(Done(0.1))
    with engine.pool.admit() as lease:
        assert [event async for event in lease.compute(ASK, FILE)] == [Done(0.1)]


async def test_a_place_is_free_when_its_work_is_done_though_the_answer_is_not_read(engine: Engine) -> None:
    runner = await engine.up()
    with engine.pool.admit() as lease:
        async with contextlib.aclosing(lease.compute(ASK, FILE)) as work:
            runner.tell(Started(1.0), Done(0.1))
            await anext(work)
            await until(lambda: engine.pool.in_use == 0)
            with engine.pool.admit():
                pass


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_UPLOAD_SECONDS", 0.01)
    monkeypatch.setattr(pool_module, "_SLOW_UPLOADS", 2)


async def test_a_slow_upload_keeps_nobody_out_and_comes_next(engine: Engine, impatient: None) -> None:
    runner = await engine.up()
    with engine.pool.admit() as slow:
        async with slow.upload():
            await until(lambda: engine.pool.in_use == 0)
            with engine.pool.admit() as quick:
                work = quick.compute(ASK, FILE)
                runner.tell(Started(1.0))
                await anext(work)
                waiting = asyncio.create_task(slow.regain_place())
                runner.tell(Done(0.1))
                await waiting
                await work.aclose()
        assert engine.pool.in_use == 1
        with refusal(Refusal.FULL):
            engine.pool.admit()
        runner.tell(Done(0.1))
        assert [event async for event in slow.compute(ASK, FILE)] == [Done(0.1)]
    assert engine.pool.in_use == 0


async def test_work_that_stops_though_nobody_called_it_off_has_failed(engine: Engine) -> None:
    """A handler lets through what another request's cancellation raised: half an answer is none."""
    runner = await engine.up()
    with engine.pool.admit() as lease:
        runner.tell(Started(1.0), Stopped())
        with pytest.raises(EngineError) as caught:
            _ = [event async for event in lease.compute(ASK, FILE)]
    assert caught.value.problem.status == 500
    assert engine.pool.in_use == 0
    assert engine.value("cancelled_total") == 0


async def upload_for_ever(engine: Engine) -> None:
    with engine.pool.admit() as lease:
        async with lease.upload():
            await asyncio.Event().wait()


async def test_of_too_many_slow_uploads_those_that_came_first_go_on(engine: Engine, impatient: None) -> None:
    await engine.up()
    uploads = []
    for _ in range(4):
        uploads.append(asyncio.create_task(upload_for_ever(engine)))
        await until(lambda: engine.pool.in_use == 1)
        await until(lambda: engine.pool.in_use == 0)
    for upload in uploads[2:]:
        with pytest.raises(EngineError) as caught:
            await upload
        assert (caught.value.problem.status, caught.value.problem.code) == (408, "upload_too_slow")
    assert not any(upload.done() for upload in uploads[:2])
    engine.pool.evict()
    for upload in uploads[:2]:
        with refusal(Refusal.DRAINING):
            await upload
    await asyncio.wait_for(engine.pool.drained(), 60)


async def test_a_slot_that_cannot_come_back_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_module, "_RESTART_SECONDS", 0)
    monkeypatch.setattr(pool_module, "_AGAIN_SECONDS", 0.01)
    engine = Engine(slots=2)
    await engine.up(0)
    await engine.up(1)
    engine.runners[0].die()
    for number in range(2, 8):
        await until(partial(_has, engine, number))
        engine.runners[number].tell(LoadFailed("no memory")) if number == 7 else engine.runners[number].die()
    await until(lambda: len(engine.runners) == 9)
    assert engine.pool.ready
    await engine.up(8)
    assert engine.pool.capacity == 2
    engine.supervising.cancel()


class Woken(Pool):
    @override
    def away(self, model: str) -> bool:
        return True

    @override
    async def once_loaded(self, model: str, take: Callable[[Pool], T]) -> T:
        return take(self)


async def stays() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("it says nothing")


def sessions_of(engine: Engine) -> Realtime:
    """To a model that was away, and whose first slot is up."""
    door = Woken([], engine.metrics, ["m"], sessions=engine.pool)
    settings = read_settings({"MODELS": "m", "ROUNDHOUSE_SESSIONS": "2"}, Live)
    return Realtime(Live, settings, door, engine.metrics)


async def test_a_session_that_waits_for_a_slot_hears_that_its_model_is_over() -> None:
    engine = Engine(slots=2)
    await engine.up(0)
    route, ask = sessions_of(engine), read_stream_ask({"model": ["m"]}, Live, ["m"])
    _, lease = await route._admitted(ask, stays)
    asked = asyncio.create_task(route._admitted(ask, stays))

    async def waits() -> bool:
        return engine.pool.waiting == 1

    await eventually(waits, seconds=6, what="it waits", every=0.001)
    engine.pool.evict(model_failed("m", "it is broken", again=False))
    with pytest.raises(EngineError, match="it is broken"):
        await asyncio.wait_for(asked, 60)
    engine.pool.end(lease)
    engine.supervising.cancel()
    await asyncio.gather(engine.supervising, return_exceptions=True)


async def test_sessions_that_woke_their_model_wait_for_the_slots_that_still_come_up() -> None:
    engine = Engine(slots=2)
    await engine.up(0)
    route = sessions_of(engine)
    ask = read_stream_ask({"model": ["m"]}, Live, ["m"])
    asked = [asyncio.create_task(route._admitted(ask, stays)) for _ in range(3)]
    with pytest.raises(EngineError) as refusal:
        await asyncio.wait_for(asked[2], 60)
    assert refusal.value.problem.reason is Refusal.FULL, "of two places"
    assert [one.done() for one in asked] == [True, False, True]
    await engine.up(1)
    for _, lease in await asyncio.wait_for(asyncio.gather(*asked[:2]), 60):
        assert lease.placed
        engine.pool.end(lease)
    engine.supervising.cancel()
    await asyncio.gather(engine.supervising, return_exceptions=True)


async def test_an_engine_all_of_whose_threads_hang_is_no_longer_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two that hangs costs its place alone; what stops after all is as good as new."""
    monkeypatch.setattr(slot_module, "_HUNG_SECONDS", 0)
    monkeypatch.setattr(ScriptedRunner, "kill", lambda _: None)  # as of a thread
    engine = Engine(slots=2, cancel_seconds=0)
    expose(engine.pool, engine.metrics)
    views = _Views(Vectors, engine.pool, engine.metrics)
    runners = [await engine.up(number) for number in range(2)]
    statuses = []
    for number in (1, 2):
        with engine.pool.admit() as lease:
            work = lease.compute(ASK, FILE)
            for runner in runners:
                runner.tell(Started(1.0))
            await anext(work)
            await work.aclose()
        await until(lambda most=number: engine.value("slots_overdue") == most)  # type: ignore[misc]
        statuses.append((await views.live(None)).status_code)  # type: ignore[arg-type]
    assert statuses == [200, 503]
    runners[0].tell(Stopped())
    await until(lambda: engine.pool.overdue == 1)
    assert (await views.live(None)).status_code == 200  # type: ignore[arg-type]
    engine.supervising.cancel()
    await asyncio.gather(engine.supervising, return_exceptions=True)
