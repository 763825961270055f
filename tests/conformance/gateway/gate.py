"""An engine whose answers wait until a test lets them go: what is to be seen meanwhile has all the time."""

import asyncio

from aiohttp import web

from tests.conformance.gateway.scripted_engine import Answer, Received, ScriptedEngine, transcript
from tests.support.waiting import wait_until

LOOK_SECONDS = 0.01


class Gate:
    """Shut from the beginning, for all of these engines. Whoever is cut off before it opens is let go."""

    def __init__(self, *engines: ScriptedEngine, then: Answer = transcript) -> None:
        self._engines = engines
        self._then = then
        self._is_open = False
        for each in engines:
            each.answer = self._answer

    def open(self) -> None:
        self._is_open = True

    async def _answer(self, request: web.Request, received: Received) -> web.StreamResponse:
        while not self._is_open:  # noqa: ASYNC110 - another thread opens it
            await asyncio.sleep(LOOK_SECONDS)
        return await self._then(request, received)

    def wait_for(self, requests: int) -> None:
        """Until so many have come to the engines."""
        wait_until(
            lambda: sum(len(each.requests) for each in self._engines) == requests,
            seconds=60,
            what=f"{requests} are asked",
            every=0.02,
        )
