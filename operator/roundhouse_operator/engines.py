"""Asks engines what they hold: the leader reads `/v1/models` of every pod whose engine runs.

Each half minute, each second where something new is expected, and never more than so many at once: of more
pods than that allows each is asked less often. Silence is no answer, and an engine that does not speak
Roundhouse's dialect is asked ever more seldom.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from roundhouse_operator.core.kinds import Key
from roundhouse_operator.core.masking import last_words
from roundhouse_operator.core.reports import EngineReport, ModelReport
from roundhouse_operator.standing import Standing

logger = logging.getLogger(__name__)

PERIOD_SECONDS: Final = 30.0
HURRY_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 120.0
"""How long something new is waited for each second; after that each `SLOWER_SECONDS`."""
SLOWER_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 600.0
STARTS_A_TICK: Final = 20
AT_ONCE: Final = 64
ANSWER_SECONDS: Final = 5.0
LARGEST_BYTES: Final = 1 << 20
ERROR_LENGTH: Final = 256


@dataclass(slots=True)
class _Asked:
    at: float
    silent: int = 0
    hurried_since: float | None = None


class EngineReader:
    """`on_news` is called with the pod whose report is another than before."""

    def __init__(self, standing: Standing, on_news: Callable[[Key], None]) -> None:
        self._standing = standing
        self._on_news = on_news
        self._asked: dict[Key, _Asked] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    def hurry(self) -> None:
        """Something was changed that pods will soon tell of."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        connector = aiohttp.TCPConnector(limit=AT_ONCE, keepalive_timeout=2 * PERIOD_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            try:
                while True:
                    self._begin(session)
                    try:
                        async with asyncio.timeout(HURRY_SECONDS):
                            await self._wake.wait()
                    except TimeoutError:
                        pass
                    self._wake.clear()
            finally:
                for task in self._asking:
                    task.cancel()
                await asyncio.gather(*self._asking, return_exceptions=True)

    def _begin(self, session: aiohttp.ClientSession) -> None:
        """Ask those that are due, the longest unasked first."""
        now = asyncio.get_running_loop().time()
        there = self._standing.addresses
        for gone in self._asked.keys() - there.keys():
            del self._asked[gone]
        due = [(at, pod) for pod in there if (at := self._due_at(pod, now)) <= now]
        due.sort(key=lambda one: one[0])
        for _, pod in due[: min(STARTS_A_TICK, AT_ONCE - len(self._asking))]:
            self._asked.setdefault(pod, _Asked(now)).at = now
            task = asyncio.create_task(self._ask(session, pod, there[pod]))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    def _due_at(self, pod: Key, now: float) -> float:
        asked = self._asked.get(pod)
        if asked is None or pod not in self._standing.asked:
            return 0.0 if asked is None else asked.at + HURRY_SECONDS
        if pod not in self._standing.hurried:
            asked.hurried_since = None
            return asked.at + min(PERIOD_SECONDS * 2.0**asked.silent, LONGEST_SECONDS)
        if asked.hurried_since is None:
            asked.hurried_since = now
            return now
        waited = now - asked.hurried_since
        return asked.at + (HURRY_SECONDS if waited < PATIENCE_SECONDS else SLOWER_SECONDS)

    async def _ask(self, session: aiohttp.ClientSession, pod: Key, address: str) -> None:
        try:
            async with session.get(f"http://{address}/v1/models", allow_redirects=False) as response:
                report = read_report(await _body(response)) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            logger.debug("%s does not answer: %r", pod, error)
            report = None
        if asked := self._asked.get(pod):
            asked.silent = 0 if report else min(asked.silent + 1, 8)
        if self._standing.addresses.get(pod) == address and self._standing.hear(pod, report):
            self._on_news(pod)


def read_report(body: bytes) -> EngineReport | None:
    """None: it is not what an engine of Roundhouse's dialect says."""
    try:
        said = json.loads(body)
        generation = said["generation"]
        models = {one["id"]: _model(one) for one in said["data"] if "state" in one}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return EngineReport(generation, models) if isinstance(generation, int) else None


def _model(said: dict[str, Any]) -> ModelReport:
    vram = said.get("vramBytes")
    return ModelReport(
        state=str(said["state"]),
        vram_bytes=vram if isinstance(vram, int) and not isinstance(vram, bool) else None,
        error=last_words(str(said.get("error") or "")[:ERROR_LENGTH]),
    )


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Empty where it is longer than any engine's honest answer."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > LARGEST_BYTES:
            return b""
    return bytes(body)
