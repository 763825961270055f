"""How a process ends: in bounded time, whatever hangs, and with a word on what did.

`end` gives tasks so long and leaves behind who takes longer; `run` is `asyncio.run` for a process in which
somebody may have been left behind; `leave_within` is for what neither reaches, such as a loop that stands
still or a thread that somebody waits for. In which order things are ended is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterable
from types import AsyncGeneratorType, CoroutineType
from typing import Any, Final, NoReturn

logger = logging.getLogger(__name__)

LEFT_SECONDS: Final = 1.0
"""For tasks that nobody has ended, after all else has."""
FAILURE: Final = 1


async def end(tasks: Iterable[asyncio.Task[Any]], seconds: float) -> bool:
    """Cancels them and waits for no longer than that. Whether all have ended; who has not is told.

    What had failed before is for those to tell who waited for it.
    """
    running = []
    for task in tasks:
        if task.cancel():
            running.append(task)
        elif not task.cancelled():
            task.exception()  # looked at, so that nobody complains that nobody did
    if not running:
        return True
    ended, left = await asyncio.wait(running, timeout=seconds)
    for task in ended:
        if not task.cancelled() and (error := task.exception()):
            logger.warning(
                "Task %r failed while it ended: %r", task.get_name(), error, extra={"reason": "EndedBadly"}
            )
    for task in left:
        logger.warning(
            "Told to end, and has not for %.0f s: it is left behind. %s",
            seconds,
            _stack(task),
            extra={"reason": "NotEnded"},
        )
    return not left


def run(main: Coroutine[Any, Any, int]) -> int:
    """Its exit status. Where a task does not end, the process ends here: nobody waits for it any longer."""
    runner = asyncio.Runner()
    try:
        status = runner.run(main)
    except BaseException:
        runner.run(end_others())
        raise
    if not runner.run(end_others()):
        leave(status)
    runner.close()
    return status


def leave(status: int) -> NoReturn:
    """At once: neither tasks nor threads are waited for."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


def leave_within(seconds: float, leave: Callable[[int], object] = leave) -> Callable[[], None]:
    """From now on the process has so long to end by itself. To be called in its loop.

    What is returned calls it off, for a process that goes on after all.
    """
    loop, called_off = asyncio.get_running_loop(), threading.Event()

    def watch() -> None:
        if called_off.wait(seconds):
            return
        logger.error(
            "Not ended within %.0f s, leaving all the same. What there still is:\n%s",
            seconds,
            _everything(loop),
            extra={"reason": "NotEnded"},
        )
        leave(FAILURE)

    threading.Thread(target=watch, name="last resort", daemon=True).start()
    return called_off.set


def stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)


async def end_others() -> bool:
    """All tasks but the one that asks. Whether all have ended."""
    return await end(asyncio.all_tasks() - {asyncio.current_task()}, LEFT_SECONDS)


def _stack(task: asyncio.Task[Any]) -> str:
    """Where it stands, outermost first. A task's own `get_stack` shows no more than the outermost frame."""
    lines, waiting = [f"Task {task.get_name()!r}:\n"], task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None)
        if frame is not None:
            lines += traceback.format_stack(frame, limit=1)
        waiting = _awaited_by(waiting)
    return "".join(lines)


def _awaited_by(waiting: object) -> Any:  # noqa: ANN401  # a coroutine, a generator, or what they hand on
    if isinstance(waiting, CoroutineType):
        return waiting.cr_await
    if isinstance(waiting, AsyncGeneratorType):
        return waiting.ag_await
    # What steps an asynchronous generator does not say which.
    return next((one for one in gc.get_referents(waiting) if isinstance(one, AsyncGeneratorType)), None)


def _everything(loop: asyncio.AbstractEventLoop) -> str:
    """Tasks, and threads by what they are in the middle of."""
    tasks = [_stack(task) for task in asyncio.all_tasks(loop)]
    names = {one.ident: one.name for one in threading.enumerate()}
    threads = [
        f"Thread {names.get(number, number)}:\n{''.join(traceback.format_stack(frame))}"
        for number, frame in sys._current_frames().items()  # noqa: SLF001  # its only way, and documented
        if number != threading.get_ident()
    ]
    return "".join(tasks + threads)
