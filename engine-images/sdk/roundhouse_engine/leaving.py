"""Work for a client that may leave before it is done, or whose time may be over."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from starlette.datastructures import Headers
from starlette.types import Receive

from roundhouse_engine.errors import EngineError, Problem, invalid
from roundhouse_engine.upload import ClientGone

Result = TypeVar("Result")

_DEADLINE: Final = "x-roundhouse-deadline-ms"


def deadline_of(headers: Headers) -> float | None:
    """When the client stops waiting, by this process's clock; None: it does not say."""
    text = headers.get(_DEADLINE)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise invalid(f"The header {_DEADLINE} must be milliseconds, not {text!r}.", param=_DEADLINE)
    return time.monotonic() + int(text) / 1000


def left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)


async def unless_gone(
    receive: Receive, work: Coroutine[Any, Any, Result], seconds: float | None = None
) -> Result:
    """The work's result; if the client hangs up first, the work is cancelled and `ClientGone` raised.

    After `seconds` it is cancelled as well, and `EngineError` raised.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_hung_up(receive))
    try:
        done, _ = await asyncio.wait({working, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise overdue()
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _hung_up(receive: Receive) -> None:
    while not (await receive())["type"].endswith(".disconnect"):
        pass


def overdue() -> EngineError:
    message = "The request's deadline is over; what was begun of it is dropped. Ask for less, or wait longer."
    return EngineError(Problem(504, "server_error", "deadline_exceeded", message))
