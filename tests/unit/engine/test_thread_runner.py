"""Handlers that several threads share: loaded once, or not at all, and told to whoever listens still."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from typing_extensions import override

from roundhouse_engine import CancelStep, Handler, ModelError, ModelSpec
from roundhouse_engine.events import Event, Loaded, LoadFailed, Loading
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
