"""Kubernetes events: one for each transition of a resource, and none while nothing changes.

Best effort by their nature: they are written behind the passes, and dropped when there are too many. The
truth is in the conditions.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.model import Manifest
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import EVENT, Kind
from roundhouse_operator.core.observed import Resource
from roundhouse_operator.errors import ClusterError

logger = logging.getLogger(__name__)

BACKLOG: Final = 1000
NOTE_LENGTH: Final = 1024
NAME_LENGTH: Final = 200
"""Of an object in an event's own name, which holds 253 characters."""
_TOLD: Final = (ConditionType.READY, ConditionType.DEGRADED, ConditionType.OWNERSHIP_CONFLICT)
_CALM: Final = frozenset(
    {
        Reason.PENDING,
        Reason.STARTING,
        Reason.ROLLING_OUT,
        Reason.DOWNLOADING,
        Reason.SCALED_TO_ZERO,
        Reason.SUSPENDED,
    }
)


@dataclass(frozen=True, slots=True)
class Transition:
    """A condition that came, went or changed its cause."""

    reason: str
    message: str
    normal: bool


def transitions(before: Manifest, after: Manifest) -> Iterator[Transition]:
    """What a new status tells that the one before did not."""
    old = {one["type"]: one for one in before.get("conditions") or ()}
    new = {one["type"]: one for one in after.get("conditions") or ()}
    for kind in _TOLD:
        was, now = old.get(kind.value), new.get(kind.value)
        if now and (was is None or (was["status"], was["reason"]) != (now["status"], now["reason"])):
            calm = now["reason"] in _CALM or (kind is ConditionType.READY and now["status"] == "True")
            yield Transition(now["reason"], now["message"], calm)
        elif was and not now:
            yield Transition(was["reason"], f"{kind.value} is over", normal=True)


@dataclass(frozen=True, slots=True)
class Regarded:
    """The object on which an event stands."""

    kind: Kind
    namespace: str
    name: str
    uid: str


class Recorder:
    """Takes transitions at once and writes them when it can."""

    def __init__(self, cluster: Cluster, instance: str) -> None:
        self._cluster = cluster
        self._instance = instance
        self._backlog: asyncio.Queue[Manifest] = asyncio.Queue(BACKLOG)

    def tell(self, resource: Resource[Any], before: Manifest, after: Manifest) -> None:
        on = Regarded(resource.kind, resource.namespace, resource.name, resource.uid)
        for transition in transitions(before, after):
            told = transition.message[:NOTE_LENGTH]
            logger.info("%s: %s", resource.key, told, extra={"reason": transition.reason})
            self.note(on, transition)

    def note(self, on: Regarded, transition: Transition) -> None:
        try:
            self._backlog.put_nowait(_event(on, transition, self._instance))
        except asyncio.QueueFull:
            logger.warning(
                "Too many events: %s of %s %r is not told",
                transition.reason,
                on.kind,
                on.name,
                extra={"reason": "EventDropped"},
            )

    async def run(self) -> None:
        while True:
            event = await self._backlog.get()
            try:
                await self._cluster.create(EVENT, event)
            except ClusterError as error:
                logger.info("An event was not written: %s", error, extra={"reason": "EventDropped"})


def _event(on: Regarded, transition: Transition, instance: str) -> Manifest:
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {
            "namespace": on.namespace,
            "name": f"{on.name[:NAME_LENGTH]}.{secrets.token_hex(8)}",
        },
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": "roundhouse.dev/operator",
        "reportingInstance": instance,
        "action": "Reconcile",
        "type": "Normal" if transition.normal else "Warning",
        "reason": transition.reason,
        "note": transition.message[:NOTE_LENGTH],
        "regarding": {
            "apiVersion": on.kind.api_version,
            "kind": on.kind.name,
            "namespace": on.namespace,
            "name": on.name,
            "uid": on.uid,
        },
    }
