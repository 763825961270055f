"""Answers that are still being written, though their requests have no place any more: a drain waits."""

import asyncio
import contextlib
from collections.abc import Iterator

from starlette.types import Message, Send


class Answers:
    def __init__(self) -> None:
        self._count = 0
        self._fewer = asyncio.Event()

    @contextlib.contextmanager
    def another(self) -> Iterator[None]:
        """Around the writing of one; entered in the step in which its request gives its place up."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._fewer.set()

    async def written(self) -> None:
        """Returns when none is being written."""
        while self._count:
            self._fewer.clear()
            await self._fewer.wait()


def flushing(send: Send) -> Send:
    """Sends an answer that is whole such that it has left, but for the last of it, when that returns."""

    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.body" and message.get("body"):
            await send({**message, "more_body": True})
            message = {"type": "http.response.body", "body": b""}
        await send(message)

    return send_on
