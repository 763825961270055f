"""A process that cannot be followed is told as one that died: whoever runs in it would wait for ever."""

import asyncio
from typing import Any

import pytest

from roundhouse_engine.handler import ModelSpec
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.process_runner import Launch, Process, ProcessRunner


@pytest.mark.parametrize("threads", [True, False], ids=["", "and no thread is left"])
async def test_where_no_descriptor_is_left_its_runners_hear_of_its_end(
    threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many(*_: Any, **__: Any) -> Any:
        raise OSError(24, "Too many open files")

    def no_thread(*_: Any) -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(asyncio, "open_unix_connection", too_many)
    if not threads:
        monkeypatch.setattr(asyncio, "to_thread", no_thread)
    launch = Launch("tests.conformance.engine.handlers:Scripted", (ModelSpec("m"),), 1, "info", "json")
    process = Process(launch, Metrics())
    runner = ProcessRunner(process)
    async with asyncio.timeout(120):
        assert [event async for event in runner.events()] == []
    told = "not started: Too many open files" if threads else "cannot be followed: RuntimeError"
    assert told in runner.obituary()
    assert process.over
    assert process._child is not None
    assert process._child.returncode is not None, "nothing of it stays"
