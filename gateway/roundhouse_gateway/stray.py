"""Errors on the event loop that no task was asked for."""

import asyncio
from typing import Any

import aiohttp


def on_stray_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs what no task was asked for, but for one thing that is told elsewhere.

    aiohttp sends a body in a task of its own. Where the engine leaves at the body's very end nobody asks that
    task; that the engine has gone is told by the answer that does not come.
    """
    if not isinstance(context.get("exception"), aiohttp.ClientConnectionResetError):
        loop.default_exception_handler(context)
