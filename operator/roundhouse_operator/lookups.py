"""Objects that nobody watches, looked up by name when a decision asks: Secrets, ConfigMaps, classes, claims.

Only the metadata is asked for, but of claims, so no Secret's data ever reaches this process. An answer is
good for some seconds, so that many variants of one Secret cost one request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import CONFIG_MAP, SECRET, STORAGE_CLASS, VOLUME_CLAIM, Kind
from roundhouse_operator.core.weights.asked import Answer, Answers, Ask, AskedKind
from roundhouse_operator.errors import NotFoundError, RefusedError

logger = logging.getLogger(__name__)

FRESH_SECONDS: Final = 5.0
_KINDS: Final[dict[AskedKind, Kind]] = {
    AskedKind.SECRET: SECRET,
    AskedKind.CONFIG_MAP: CONFIG_MAP,
    AskedKind.STORAGE_CLASS: STORAGE_CLASS,
    AskedKind.CLAIM: VOLUME_CLAIM,
}


class Lookups:
    """Remembers answers no longer than they are good for."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[tuple[str, Ask], tuple[float, Answer]] = {}

    async def answers(self, namespace: str, asks: Iterable[Ask]) -> Answers:
        """Raises ClusterError where the API server does not say."""
        self._forget_old()
        return {ask: await self._answer(namespace, ask) for ask in asks}

    async def _answer(self, namespace: str, ask: Ask) -> Answer:
        known = self._known.get((namespace, ask))
        if known:
            return known[1]
        try:
            get = self._cluster.get if ask.kind is AskedKind.CLAIM else self._cluster.get_metadata
            manifest = await get(_KINDS[ask.kind], namespace, ask.name)
        except NotFoundError:
            answer = Answer(found=False)
        except RefusedError as error:
            logger.warning("%s %s/%s may not be looked at: %s", ask.kind, namespace, ask.name, error)
            answer = Answer(found=True, refused=error.message)
        else:
            metadata = manifest["metadata"]
            modes = frozenset((manifest.get("spec") or {}).get("accessModes") or ())
            marks = frozenset(metadata.get("annotations") or {})
            version = metadata["resourceVersion"]
            answer = Answer(True, metadata.get("labels") or {}, version, modes, annotations=marks)
        self._known[namespace, ask] = (_now(), answer)
        return answer

    def _forget_old(self) -> None:
        """The oldest first, because they stand in the order in which they came."""
        while self._known and _now() - next(iter(self._known.values()))[0] > FRESH_SECONDS:
            del self._known[next(iter(self._known))]


def _now() -> float:
    return asyncio.get_running_loop().time()
