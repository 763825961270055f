"""Handlers that several threads share: loaded once, or not at all, and told to whoever listens still."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typing_extensions import override

from roundhouse_engine import CancelStep, Handler, ModelError, ModelSpec, thread_runner
from roundhouse_engine.events import Done, Event, Loaded, LoadFailed, Loading
from roundhouse_engine.text_events import TextAsk, TextWork
from roundhouse_engine.thread_runner import SharedHandlers, ThreadRunner
from tests.support.waiting import wait_until


class Damaged(Handler):
    """Cannot be loaded, which takes until the gate is open."""

    cancel_step = CancelStep.WINDOW
    gate = threading.Event()
    loads = 0

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        type(self).loads += 1
        progress(0.5)
        self.gate.wait(60)
        progress(0.9)
        raise ModelError("its weights are damaged.")


async def failure(runner: ThreadRunner) -> Event:
    async for event in runner.events():
        if isinstance(event, LoadFailed):
            return event
    raise AssertionError("the events ended")


async def test_a_load_that_failed_is_not_tried_by_each_thread_that_waits_for_it() -> None:
    handlers, before = SharedHandlers(Damaged, (ModelSpec("m"),)), Damaged.loads
    Damaged.gate.set()
    found = await asyncio.gather(*(failure(ThreadRunner(handlers)) for _ in range(3)))
    assert found == [LoadFailed("its weights are damaged.")] * 3
    assert Damaged.loads == before + 1


def test_a_load_that_goes_on_behind_the_engines_end_says_nothing(monkeypatch: Any) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    Damaged.gate.clear()
    handlers = SharedHandlers(Damaged, (ModelSpec("m"),))

    async def begun() -> Event:
        runner = ThreadRunner(handlers)
        async for event in runner.events():
            if event == Loading("m", 0.5):
                return event
        raise AssertionError("the events ended")

    asyncio.run(begun())
    Damaged.gate.set()

    def over() -> bool:
        return not any(thread.name == "load" for thread in threading.enumerate())

    wait_until(over, seconds=60, what="the thread has ended", every=0.01)
    assert raised == []


class Sound(Damaged):
    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None: ...

    @override
    def vram_bytes(self) -> None: ...


async def test_a_load_is_logged_once_with_its_models(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    handlers = SharedHandlers(Sound, (ModelSpec("a"), ModelSpec("b")))

    async def loaded() -> None:
        async for event in ThreadRunner(handlers).events():
            if isinstance(event, Loaded):
                return

    await asyncio.gather(*(loaded() for _ in range(2)))
    [told] = [vars(record) for record in caplog.records if record.message == "models loaded"]
    assert told["models"] == ["a", "b"]


async def test_nothing_is_unloaded_while_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever left a request, or a drain that is over, does not end a thread that is deaf to that."""
    begun, gate = threading.Event(), threading.Event()
    unloaded_while_it_computed: list[bool] = []

    class Freed(Sound):
        @override
        def unload(self) -> None:
            unloaded_while_it_computed.append(not gate.is_set())

    def deaf(*_: Any) -> Iterator[Event]:
        begun.set()
        assert gate.wait(60)
        yield Done(0.0)

    monkeypatch.setattr(thread_runner, "compute", deaf)
    handlers = SharedHandlers(Freed, (ModelSpec("m"),))
    handlers.load(lambda _: None)
    with os.fdopen(os.open(os.devnull, os.O_RDONLY), "rb") as file:
        ThreadRunner(handlers).begin(TextAsk("m", TextWork.CHAT), file)
    await asyncio.to_thread(begun.wait, 60)
    unloading = threading.Thread(target=handlers.unload)
    unloading.start()
    unloading.join(0.1)
    assert not unloaded_while_it_computed
    gate.set()
    await asyncio.to_thread(unloading.join, 60)
    assert unloaded_while_it_computed == [False]
