"""A process ends in bounded time, and says who did not end by himself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest

from roundhouse_operator.ending import end

STUBBORN = """
import asyncio, logging, time
from roundhouse_operator import ending

async def stubborn():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

logging.basicConfig()
kept = []  # a task that nobody holds may be collected as garbage before it is left
"""
LONGEST_SECONDS = 120.0


async def stubborn() -> None:
    told = 0
    while told < 2:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told += 1


async def obedient() -> None:
    await asyncio.Event().wait()


async def failing() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("while it ended")


async def test_who_does_not_end_is_left_behind_and_told_with_where_it_stands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def outer() -> None:
        await stubborn()

    tasks = [asyncio.create_task(one()) for one in (outer, obedient, failing)]
    await asyncio.sleep(0)
    assert not await end(tasks, 0.05)
    assert [task.done() for task in tasks] == [False, True, True]
    failed, left = caplog.messages
    assert "ValueError('while it ended')" in failed
    assert "in stubborn" in left, "the innermost frame is named"
    assert await end(tasks, 5)


async def test_where_it_stands_is_told_through_generators_too(caplog: pytest.LogCaptureFixture) -> None:
    async def numbers() -> AsyncIterator[int]:
        await stubborn()
        yield 1

    async def reader() -> None:
        async for _ in numbers():
            pass

    task = asyncio.create_task(reader())
    await asyncio.sleep(0)
    assert not await end([task], 0.05)
    assert "in stubborn" in caplog.text
    await end([task], 5)


@pytest.mark.parametrize(
    ("main", "status", "told"),
    [
        pytest.param("    return 3\n", 3, "", id="nothing is left"),
        pytest.param(
            "    kept.append(asyncio.create_task(stubborn()))\n    await asyncio.sleep(0)\n    return 0\n",
            0,
            "in stubborn",
            id="a task is left",
        ),
        pytest.param(
            "    ending.leave_within(0.5)\n    await stubborn()\n", 1, "in stubborn", id="the main task hangs"
        ),
        pytest.param(
            "    ending.leave_within(0.5)\n    time.sleep(600)\n",
            1,
            "time.sleep(600)",
            id="the loop stands still",
        ),
        pytest.param(
            "    ending.leave_within(0.5)\n    loop = asyncio.get_running_loop()\n"
            "    loop.run_in_executor(None, time.sleep, 600)\n    await asyncio.sleep(0.1)\n    return 0\n",
            1,
            "Thread asyncio_0",
            id="a thread is waited for",
        ),
    ],
)
def test_a_process_ends_whatever_hangs(
    main: str, status: int, told: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    script = tmp_path_factory.mktemp("ending") / "main.py"
    script.write_text(f"{STUBBORN}\nasync def main():\n{main}\nraise SystemExit(ending.run(main()))\n")
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS
    )
    assert time.monotonic() - began < LONGEST_SECONDS
    assert (ended.returncode, told in ended.stderr) == (status, True), ended.stderr
