"""Keeping the cache true: listings, and watches that go on from them.

Children, pods and nodes are watched here, because a selection by label or a projection on arrival keeps
thousands of foreign objects out of memory. The four kinds of the API are watched by kopf, see `handlers`;
what a broken watch hides, above all a deletion, is found by listing them again: after kopf has begun anew,
and every few minutes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from typing_extensions import override

from roundhouse_operator.cluster import Change, Cluster, Listing
from roundhouse_operator.core.kinds import Kind
from roundhouse_operator.errors import ClusterError, GoneError

logger = logging.getLogger(__name__)

RESYNC_SECONDS: Final = 300.0
NUDGE_SECONDS: Final = 2.0
FIRST_RETRY_SECONDS: Final = 0.5
LAST_RETRY_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Scope:
    """What to look at: a kind, in one namespace or in all, with a label selector."""

    kind: Kind
    namespace: str | None
    selector: str = ""

    @override
    def __str__(self) -> str:
        return f"{self.kind.plural} of {self.namespace or 'all namespaces'}"


@dataclass(slots=True)
class Source:
    """One stream of news about a scope. `alive_at` moves as long as its loop does, also while it fails."""

    cluster: Cluster
    scope: Scope
    on_listing: Callable[[Scope, Listing], None]
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    alive_at: float = 0.0
    failing: str | None = None
    _failures: int = 0

    async def list(self) -> Listing:
        listing = await self.cluster.list(self.scope.kind, self.scope.namespace, self.scope.selector)
        self.on_listing(self.scope, listing)
        self.listed.set()
        self.heard()
        return listing

    def heard(self) -> None:
        self.alive_at, self.failing, self._failures = _now(), None, 0

    async def back_off(self, error: ClusterError) -> None:
        self.alive_at, self.failing = _now(), str(error)
        if self._failures == 0:
            logger.warning(
                "Cannot follow %s, trying on: %s", self.scope, error, extra={"reason": "NotFollowed"}
            )
        self._failures += 1
        await asyncio.sleep(min(FIRST_RETRY_SECONDS * 2.0 ** min(self._failures, 8), LAST_RETRY_SECONDS))


async def follow(source: Source, on_change: Callable[[Kind, Change], None]) -> None:
    """Lists, then watches from there; after a cut from where it was cut, after `410 Gone` anew."""
    version: str | None = None
    scope = source.scope
    while True:
        try:
            version = version or (await source.list()).resource_version
            async for change in source.cluster.watch(scope.kind, scope.namespace, scope.selector, version):
                source.heard()
                version = change.manifest["metadata"]["resourceVersion"]
                if change.type != "BOOKMARK":
                    on_change(scope.kind, change)
        except GoneError:
            version = None
        except ClusterError as error:
            await source.back_off(error)


async def resync(source: Source, nudged: asyncio.Event) -> None:
    """Lists at the start, some seconds after each nudge, and every few minutes."""
    while True:
        try:
            await source.list()
        except ClusterError as error:
            await source.back_off(error)
            continue
        try:
            async with asyncio.timeout(RESYNC_SECONDS):
                await nudged.wait()
                await asyncio.sleep(NUDGE_SECONDS)
        except TimeoutError:
            pass
        nudged.clear()


def _now() -> float:
    return asyncio.get_running_loop().time()
