"""Keeping the cache true: listings, and watches that go on from them.

Children, pods and nodes are watched here, because a selection by label or a projection on arrival keeps
thousands of foreign objects out of memory. The four kinds of the API are watched by kopf, see `handlers`;
what a broken watch hides, above all a deletion, is found by listing them again: after kopf has begun anew,
and every few minutes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Final

from typing_extensions import override

from roundhouse_operator.cluster import Change, Cluster
from roundhouse_operator.core.kinds import Kind
from roundhouse_operator.errors import ClusterError, GoneError, RefusedError, ThrottledError
from roundhouse_operator.intake import Intake

logger = logging.getLogger(__name__)

RESYNC_SECONDS: Final = 300.0
UNSERVED_SECONDS: Final = 300.0
"""Between looks for a kind that the cluster does not serve, or does not let us see."""
_NOT_SERVED: Final = frozenset({403, 404})
NUDGE_SECONDS: Final = 2.0
LEAST_SECONDS: Final = 1.0
"""Between watches of which one ended as soon as it had begun."""
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


@dataclass(frozen=True, slots=True)
class Listed:
    """The end of a listing: which objects there were, by namespace and name, as of which version."""

    names: Container[tuple[str, str]]
    version: str


@dataclass(slots=True)
class Source:
    """One stream of news about a scope. `alive_at` moves as long as its loop does, also while it fails.

    What is listed goes to `on_change` object by object, so that no listing is ever held as a whole.
    """

    cluster: Cluster
    scope: Scope
    on_change: Callable[[Kind, Change], None]
    on_listed: Callable[[Scope, Listed], None]
    on_recovery: Callable[[], None]
    on_served: Callable[[bool], None] | None = None
    """For a kind that the cluster need not serve: told whether it does. None: it must."""
    intake: Intake = field(default_factory=Intake)
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    nudged: asyncio.Event = field(default_factory=asyncio.Event)
    alive_at: float = 0.0
    heard_at: float = 0.0
    failing: str | None = None
    _failures: int = 0

    async def list(self) -> str:
        """Its version."""
        scope, names, version = self.scope, set[tuple[str, str]](), ""
        async with aclosing(self.cluster.pages(scope.kind, scope.namespace, scope.selector)) as pages:
            async for page in pages:
                version = page.resource_version
                for manifest in page.manifests:
                    metadata = manifest["metadata"]
                    names.add((metadata.get("namespace", ""), metadata["name"]))
                    self.take(Change("ADDED", manifest))
        if self.on_served:
            self.on_served(True)
        self.on_listed(scope, Listed(names, version))
        self.listed.set()
        self.heard()
        return version

    def take(self, change: Change) -> None:
        self.intake.take(self.on_change, self.scope.kind, change)

    def silent_seconds(self) -> float:
        return _now() - self.heard_at

    def heard(self, *, lasting: bool = True) -> None:
        """`lasting`: that it may break off at once again is not to be feared."""
        self.alive_at = self.heard_at = _now()
        if self.failing:
            logger.info("Following %s again", self.scope)
            self.on_recovery()
        self.failing = None
        if lasting:
            self._failures = 0

    def turned_away(self, error: RefusedError) -> bool:
        """Whether that says that there is nothing to follow, which for this kind is no trouble."""
        if self.on_served is None or error.status not in _NOT_SERVED:
            return False
        self.on_served(False)
        self.listed.set()
        self.heard()
        return True

    async def back_off(self, error: ClusterError) -> None:
        self.alive_at, self.failing = _now(), str(error)
        if self._failures == 0:
            logger.warning(
                "Cannot follow %s, trying on: %s", self.scope, error, extra={"reason": "NotFollowed"}
            )
        self._failures += 1
        seconds = min(FIRST_RETRY_SECONDS * 2.0 ** min(self._failures, 8), LAST_RETRY_SECONDS)
        if isinstance(error, ThrottledError):
            seconds = max(seconds, error.after_seconds)
        await asyncio.sleep(seconds)


async def follow(source: Source) -> None:
    """Lists, then watches from there; after a cut from where it was cut, after any other end anew."""
    version: str | None = None
    scope = source.scope
    while True:
        began = _now()
        try:
            version = version or await source.list()
            async for change in source.cluster.watch(scope.kind, scope.namespace, scope.selector, version):
                source.heard(lasting=_now() - began > LEAST_SECONDS)
                version = change.manifest["metadata"]["resourceVersion"]
                if change.type != "BOOKMARK":
                    source.take(change)
            source.heard()
            if _now() - began < LEAST_SECONDS:  # a proxy may answer well, and end it at once
                await asyncio.sleep(LEAST_SECONDS)
        except GoneError:
            version = None
            await asyncio.sleep(FIRST_RETRY_SECONDS)
        except RefusedError as error:
            version = None  # what the API server would not go on from once, it may never go on from
            if source.turned_away(error):
                await asyncio.sleep(UNSERVED_SECONDS)
            else:
                await source.back_off(error)
        except ClusterError as error:
            await source.back_off(error)


async def resync(source: Source) -> None:
    """Lists at the start, once it is quiet after nudges, and every few minutes."""
    while True:
        try:
            await source.list()
        except ClusterError as error:
            await source.back_off(error)
            continue
        with suppress(TimeoutError):
            async with asyncio.timeout(RESYNC_SECONDS):
                await source.nudged.wait()
                while source.nudged.is_set():
                    source.nudged.clear()
                    await asyncio.sleep(NUDGE_SECONDS)


def _now() -> float:
    return asyncio.get_running_loop().time()
