"""Authorities of one's own that loaders believe: one ConfigMap in each namespace in which weights are loaded.

Pods and Jobs hold its name alone, so a new bundle starts no model anew: whatever loader starts next reads it.
It is looked at when a variant there has a pass, and made, mended or emptied; nobody follows it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from roundhouse_api.model import Manifest
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import CONFIG_MAP
from roundhouse_operator.core.outcome import Refusal
from roundhouse_operator.core.weights.loader import AUTHORITIES_KEY
from roundhouse_operator.errors import NotFoundError, RefusedError

logger = logging.getLogger(__name__)

FRESH_SECONDS: Final = 30.0
"""For so long it is taken to be as it was found."""
REMEMBERED: Final = 10_000
"""Namespaces: they come and go, and nobody says here that one is gone."""
_LABELS: Final = {
    "app.kubernetes.io/component": "loader",
    "app.kubernetes.io/managed-by": "roundhouse",
    "app.kubernetes.io/part-of": "roundhouse",
}


@dataclass(slots=True)
class Authorities:
    """`name` is that of the ConfigMap, `certificates` what is to be in it: PEM, or nothing."""

    cluster: Cluster
    name: str
    certificates: str = ""
    _seen: OrderedDict[str, float] = field(default_factory=OrderedDict)
    """By namespace; of those that were looked at last."""
    _looking: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def ensure(self, namespace: str) -> Refusal | None:
        """Raises ClusterError where the API server does not answer."""
        if self._fresh(namespace):
            return None
        async with self._looking.setdefault(namespace, asyncio.Lock()):
            if self._fresh(namespace):
                return None
            try:
                await self._look(namespace)
            except RefusedError as error:
                if not self.certificates:
                    return None  # nobody lacks anything
                return Refusal(f"ConfigMap {self.name!r}", error.status, error.message)
            self._seen[namespace] = _now()
            self._seen.move_to_end(namespace)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return None

    def _fresh(self, namespace: str) -> bool:
        """Where there is nothing to hand out, one look finds what an earlier version left."""
        seen = self._seen.get(namespace)
        return seen is not None and (not self.certificates or _now() - seen < FRESH_SECONDS)

    async def _look(self, namespace: str) -> None:
        try:
            found = await self.cluster.get(CONFIG_MAP, namespace, self.name)
        except NotFoundError:
            found = {"metadata": {}}
        ours = _LABELS.items() <= (found["metadata"].get("labels") or {}).items()
        if not ours and not self.certificates:
            return  # there is none, or somebody else's
        if ours and (found.get("data") or {}).get(AUTHORITIES_KEY, "") == self.certificates:
            return
        # What a person wrote into ours is taken back; what somebody else made is not taken from them.
        await self.cluster.apply(CONFIG_MAP, self._manifest(namespace), force=ours)
        logger.info("Applied ConfigMap %s/%s, which tells loaders of authorities", namespace, self.name)

    def _manifest(self, namespace: str) -> Manifest:
        metadata = {"namespace": namespace, "name": self.name, "labels": dict(_LABELS)}
        data = {AUTHORITIES_KEY: self.certificates} if self.certificates else {}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _now() -> float:
    return asyncio.get_running_loop().time()
