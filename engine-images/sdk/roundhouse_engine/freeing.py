"""What may take for ever, of a file system that does not answer for instance, while the engine goes on."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def end(*tasks: "asyncio.Task[object]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def aside(work: Callable[[], Result]) -> Result:
    """As `asyncio.to_thread`, but no exit waits for it: it may have to wait for a load that is under way."""
    return await asyncio.wrap_future(begin(work))


def begin(work: Callable[[], Result]) -> "concurrent.futures.Future[Result]":
    """The same, and it goes on where nobody waits for it."""
    told = concurrent.futures.Future[Result]()
    told.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            told.set_exception(error)
        else:
            told.set_result(result)

    threading.Thread(target=run, daemon=True, name="aside").start()
    return told
