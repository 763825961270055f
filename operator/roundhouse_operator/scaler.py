"""Our own scaler: looks at the load of variants under `mode: Demand` and writes their `/scale`.

What is right is decided in `core.scaling`; here it is asked at the right times: when a load changes, when a
pass has seen the variant anew, and when the last answer said so. A look costs no request, and a write is
made only when the answer is another, at most once a second for each variant.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import Key
from roundhouse_operator.core.scaling import Policy, Seen, Track, look
from roundhouse_operator.errors import ClusterError, NotFoundError, ThrottledError
from roundhouse_operator.loads import Loads
from roundhouse_operator.queue import RetryError, WorkQueue

logger = logging.getLogger(__name__)

WRITERS: Final = 4
WRITE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Aim:
    """What a pass says of a variant that is ours to scale. `version` is that of the object it saw."""

    policy: Policy
    replicas: int
    ready: bool
    version: int


@dataclass(slots=True)
class _Followed:
    aim: Aim
    track: Track | None = None
    timer: asyncio.TimerHandle | None = None
    written_at: float = float("-inf")


class Scaler:
    """`on_write` is told of each write, `up` or `down`."""

    def __init__(self, cluster: Cluster, on_write: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._on_write = on_write
        self._followed: dict[Key, _Followed] = {}
        self.queue: WorkQueue[Key] = WorkQueue()
        self.loads = Loads(self._on_load)

    def follow(self, key: Key, aim: Aim | None) -> None:
        """After each pass over a variant; None for one that is not ours to scale, or is gone."""
        one = self._followed.get(key)
        if aim is None:
            if one:
                del self._followed[key]
                _cancel(one)
            return
        if one is None:
            self._followed[key] = _Followed(aim)
        elif aim.version >= one.aim.version:
            one.aim = aim
        self.queue.add(key)

    @property
    def followed(self) -> tuple[Key, ...]:
        """Variants that are scaled by their demand."""
        return tuple(self._followed)

    async def run(self) -> None:
        """Until cancelled."""
        await self.queue.run(self._look, workers=WRITERS)

    def _on_load(self, key: Key) -> None:
        if key in self._followed:
            self.queue.add(key)

    async def _look(self, key: Key) -> None:
        one = self._followed.get(key)
        if one is None:
            return
        loop = asyncio.get_running_loop()
        now, aim = loop.time(), one.aim
        seen = Seen(self.loads.of(key), aim.replicas, aim.ready, self.loads.known_since(now))
        one.track, advice = look(one.track, seen, aim.policy, now)
        again_at = advice.again_at
        if advice.replicas != aim.replicas:
            if now - one.written_at < WRITE_SECONDS:
                again_at = one.written_at + WRITE_SECONDS
            else:
                await self._write(key, one, advice.replicas)
        _cancel(one)
        if again_at is not None and self._followed.get(key) is one:
            one.timer = loop.call_at(again_at, self.queue.add, key)

    async def _write(self, key: Key, one: _Followed, replicas: int) -> None:
        """A write that came after another's is refused by its version, and looked at anew."""
        before = one.aim
        one.written_at = asyncio.get_running_loop().time()
        try:
            version = await self._cluster.scale(key, replicas, version=before.version)
        except NotFoundError:
            return
        except ClusterError as error:
            after = error.after_seconds if isinstance(error, ThrottledError) else 0.0
            raise RetryError(str(error), after) from error
        self._on_write("up" if replicas > before.replicas else "down")
        logger.info(
            "Scaled %s from %d to %d for %s",
            key,
            before.replicas,
            replicas,
            self.loads.of(key),
            extra={"reason": "Scaled"},
        )
        if one.aim is before:
            one.aim = Aim(before.policy, replicas, before.ready and replicas > 0, version)


def _cancel(one: _Followed) -> None:
    if one.timer:
        one.timer.cancel()
        one.timer = None
