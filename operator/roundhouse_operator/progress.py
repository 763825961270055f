"""How far the loaders are: asked of each that runs, by the address of its pod.

What moved by a twentieth, or not for half a minute, is told on, and at once that a source fails or does so no
more; all in between would only make writes. A loader that does not answer has said nothing: how it ends is
read from its pod.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from roundhouse_operator.cache import Cache, Touched
from roundhouse_operator.core.desired.weights import LOADER_PORT
from roundhouse_operator.core.kinds import Key
from roundhouse_operator.core.weights.state import Progress, read_progress

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 3.0
TELL_SECONDS: Final = 30.0
TELL_SHARE: Final = 0.05
AT_ONCE: Final = 16
"""Loaders that are asked at the same time."""
LARGEST_ANSWER: Final = 4096
_TIMEOUT: Final = aiohttp.ClientTimeout(total=2)


@dataclass(slots=True)
class ProgressPoller:
    """`touch` takes the keys whose status has something new to say."""

    cache: Cache
    touch: Callable[[Touched], None]
    _told: dict[Key, tuple[float, Progress]] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled."""
        turns = asyncio.Semaphore(AT_ONCE)
        async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as session:
            while True:
                await asyncio.gather(
                    *(
                        self._ask(session, turns, pod, host)
                        for pod, host in [*self.cache.loaders.addresses.items()]
                    )
                )
                for gone in self._told.keys() - self.cache.loaders.addresses.keys():
                    del self._told[gone]
                await asyncio.sleep(POLL_SECONDS)

    async def _ask(
        self, session: aiohttp.ClientSession, turns: asyncio.Semaphore, pod: Key, address: str
    ) -> None:
        host = f"[{address}]" if ":" in address else address
        try:
            async with turns, session.get(f"http://{host}:{LOADER_PORT}/progress") as response:
                said = await response.content.read(LARGEST_ANSWER)
            progress = read_progress(said)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            logger.debug("The loader of %s does not tell its progress: %r", pod, error)
            return
        now = asyncio.get_running_loop().time()
        if progress and is_news(self._told.get(pod), now, progress):
            self._told[pod] = now, progress
            self.touch(self.cache.progressed(pod, progress))


def is_news(told: tuple[float, Progress] | None, now: float, progress: Progress) -> bool:
    if told is None:
        return True
    at, before = told
    if progress == before:
        return False
    if bool(progress.error) != bool(before.error):
        return True
    moved = abs(progress.done_bytes - before.done_bytes)
    known = progress.total_bytes > 0 and before.total_bytes > 0
    far = moved >= TELL_SHARE * progress.total_bytes if known else progress.total_bytes != before.total_bytes
    return far or now - at >= TELL_SECONDS
