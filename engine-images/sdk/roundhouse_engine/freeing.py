"""How what a model holds is freed, while the engine goes on."""

import asyncio
import contextlib
import threading
from collections.abc import Callable


async def end(*tasks: "asyncio.Task[object]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def aside(work: Callable[[], None]) -> None:
    """As `asyncio.to_thread`, but no exit waits for it: it may have to wait for a load that is under way."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            work()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, daemon=True, name="free").start()
    await done.wait()
