"""Leader election by a Lease: one process writes, the others watch and wait.

A leader that cannot renew leaves before its Lease ends, so two never write at once; the time it judges
by is its own monotonic clock, never a timestamp that another machine wrote. The Lease is the only thing
that a settled operator writes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import LEASE, Kind
from roundhouse_operator.errors import ClusterError, ConflictError, FencedError, NotFoundError

logger = logging.getLogger(__name__)

_RENEW: Final = 0.3
"""Of the duration: a renewal is asked for so long after the last."""
_DEADLINE: Final = 0.7
"""Of the duration: without a renewal for so long the leader gives up, well before others may take over."""
RETRY_SECONDS: Final = 0.5
"""After a renewal that failed: what time there is until then is used."""
CONTEND_SECONDS: Final = 2.0
RELEASE_SECONDS: Final = 3.0


class LeadershipLostError(Exception):
    """The Lease could not be renewed in time: this process must write nothing more."""


@dataclass(slots=True)
class Election:
    """Contends for the Lease `name` in `namespace` under `identity`, which no other process may share."""

    cluster: Cluster
    namespace: str
    name: str
    identity: str
    duration_seconds: int
    """So long after its last renewal others may take the Lease over."""
    _seen: tuple[str, str] | None = field(default=None, init=False)
    _seen_at: float = field(default=0.0, init=False)
    _renewed_at: float = field(default=float("-inf"), init=False)
    _lost: bool = field(default=False, init=False)
    _contending: bool = field(default=False, init=False)
    _retired: bool = field(default=False, init=False)

    @property
    def _renew_seconds(self) -> float:
        return _RENEW * self.duration_seconds

    @property
    def _deadline_seconds(self) -> float:
        return _DEADLINE * self.duration_seconds

    async def acquire(self) -> None:
        """Returns once the Lease is ours."""
        waiting_for, self._contending = None, True
        while True:
            try:
                if await self._renew():
                    logger.info("Leading as %s", self.identity, extra={"reason": "Leading"})
                    return
            except ClusterError as error:
                logger.warning(
                    "Cannot contend for Lease %s/%s: %s",
                    self.namespace,
                    self.name,
                    error,
                    extra={"reason": "LeaseUnreachable"},
                )
            if self._seen and self._seen[0] != waiting_for:
                waiting_for = self._seen[0]
                logger.info("Following %s", waiting_for, extra={"reason": "Following"})
            await asyncio.sleep(CONTEND_SECONDS)

    async def hold(self) -> None:
        """Renews until cancelled; raises LeadershipLostError when that fails for too long."""
        pause = self._renew_seconds
        while True:
            await asyncio.sleep(pause)
            pause = self._renew_seconds
            try:
                async with asyncio.timeout(self._renewed_at + self._deadline_seconds - _now()):
                    if not await self._renew():
                        self._lost = True
                        raise LeadershipLostError(f"{self._seen and self._seen[0]!r} took the Lease")
            except (ClusterError, TimeoutError) as error:
                age = _now() - self._renewed_at
                if age + RETRY_SECONDS > self._deadline_seconds:
                    self._lost = True
                    raise LeadershipLostError(f"not renewed for {age:.0f} s: {error!r}") from error
                pause = RETRY_SECONDS
                logger.warning(
                    "Cannot renew Lease %s/%s yet: %s",
                    self.namespace,
                    self.name,
                    error,
                    extra={"reason": "LeaseUnreachable"},
                )

    def check(self) -> None:
        """Asked in the moment of each write: a process that was frozen wakes up in the middle of a pass."""
        if self._retired:
            raise FencedError("not written: this process is ending")
        if (age := _now() - self._renewed_at) > self._deadline_seconds:
            raise FencedError(f"not written: the Lease was not renewed for {age:.0f} s")

    def retire(self) -> None:
        """From now on nothing is written but the Lease."""
        self._retired = True

    async def release(self) -> None:
        """Lets a follower take over at once, on an orderly end."""
        if self._lost or not self._contending:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                while not await self._let_go():
                    pass  # a renewal of ours was still on its way
        except (ClusterError, TimeoutError) as error:
            logger.warning(
                "The Lease ends by itself in %d s: %r",
                self.duration_seconds,
                error,
                extra={"reason": "LeaseLeft"},
            )

    async def _let_go(self) -> bool:
        lease = await self.cluster.get(LEASE, self.namespace, self.name)
        if lease["spec"].get("holderIdentity") == self.identity:
            lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            try:
                await self.cluster.replace(LEASE, lease)
            except ConflictError:
                return False
        return True

    async def _renew(self) -> bool:
        started = _now()
        if not await self._try(started):
            return False
        self._renewed_at = started  # it counts from when it was asked for
        return True

    async def _try(self, now: float) -> bool:
        try:
            lease = await self.cluster.get(LEASE, self.namespace, self.name)
        except NotFoundError:
            lease = {
                "apiVersion": LEASE.api_version,
                "kind": LEASE.name,
                "metadata": {"namespace": self.namespace, "name": self.name},
                "spec": {},
            }
            return await self._take(lease, self.cluster.create)
        holder, mine = self._holder(lease, now), self.identity
        return holder in (None, mine) and await self._take(lease, self.cluster.replace)

    def _holder(self, lease: Manifest, now: float) -> str | None:
        """Who holds it, or None if nobody does: an expired Lease was not renewed while *we* looked on."""
        spec = lease["spec"]
        holder = spec.get("holderIdentity")
        if not holder:
            return None
        record = (holder, lease["metadata"]["resourceVersion"])
        if record != self._seen:
            self._seen, self._seen_at = record, _now()  # after the answer: it may have been long on its way
        lasts = spec.get("leaseDurationSeconds", self.duration_seconds)
        return None if now - self._seen_at > lasts else holder

    async def _take(self, lease: Manifest, write: Callable[[Kind, Manifest], Awaitable[Manifest]]) -> bool:
        now, spec = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), lease["spec"]
        if spec.get("holderIdentity") != self.identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = spec.get("leaseTransitions", -1) + 1
        spec |= {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.duration_seconds,
            "renewTime": now,
        }
        try:
            await write(LEASE, lease)
        except ConflictError:
            return False
        return True


def _now() -> float:
    return asyncio.get_running_loop().time()
