"""What is counted of many models is read and written without standing in anybody's way."""

import asyncio
import threading

import pytest
from prometheus_client import generate_latest
from prometheus_client.registry import Collector

from roundhouse_engine import metrics as metrics_module
from roundhouse_engine.metrics import Metrics


async def test_others_have_their_turn_between_two_metrics_and_while_they_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics, loop = Metrics(), asyncio.get_running_loop()
    for number in range(100):
        metrics.request_seconds.labels(f"model-{number}").observe(1)
    turns, read_by, written_by = 0, [], []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def slots() -> int:
        read_by.append(threading.current_thread())
        return 3

    def write(read: Collector) -> bytes:
        written_by.append(threading.current_thread())
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(60)  # the loop is free
        return generate_latest(read)

    metrics.slots.set_function(slots)
    monkeypatch.setattr(metrics_module, "generate_latest", write)
    busy = asyncio.create_task(others())
    found = await metrics.render()
    busy.cancel()
    assert turns > len(list(metrics.registry.collect()))
    assert read_by[0] is threading.main_thread(), "the loop changes what it is counted from"
    assert len(written_by) == 1
    assert written_by[0] is not threading.main_thread()

    def ours(text: bytes) -> list[bytes]:
        return [line for line in text.splitlines() if b"roundhouse_engine_" in line]

    assert b"roundhouse_engine_slots 3.0" in ours(found)
    assert ours(found) == ours(generate_latest(metrics.registry))
