"""Asks ReplicaSets why pods cannot be created, where a Deployment says that they cannot.

Nobody watches ReplicaSets: they are asked about only then, and are as seldom as what is refused.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import DEPLOYMENT, REPLICA_SET, Key
from roundhouse_operator.core.newest import newest_refusal
from roundhouse_operator.core.observed import World
from roundhouse_operator.core.own import child_of
from roundhouse_operator.core.shared import EngineWorld
from roundhouse_operator.errors import RefusedError

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 10
"""A ReplicaSet that has failed at nothing yet may do so in a moment, and no Deployment tells of that."""


@dataclass(frozen=True, slots=True)
class Refusals:
    cluster: Cluster

    async def look(self, world: World) -> World:
        """With what is refused now, instead of what was refused first."""
        rollout, deployment = world.rollout, child_of(world, DEPLOYMENT)
        if rollout is None or deployment is None or rollout.refused is None:
            return world
        found = await self._replica_sets(world.variant.key, names.LABEL_VARIANT)
        if found is None:
            return world
        return replace(world, rollout=replace(rollout, refused=newest_refusal(found, deployment.uid)))

    async def look_at_shared(self, world: EngineWorld) -> EngineWorld:
        """The same of pods that an engine's variants share, of which each has a Deployment."""
        uids = {one.name: one.uid for one in world.children if one.kind == DEPLOYMENT}
        refused = {name: one for name, one in world.rollouts.items() if one.refused is not None}
        found = await self._replica_sets(world.engine.key, names.LABEL_ENGINE) if refused else None
        if found is None:
            return world
        said = {
            name: replace(one, refused=newest_refusal(found, uids[name]))
            for name, one in refused.items()
            if name in uids
        }
        return replace(world, rollouts={**world.rollouts, **said})

    async def _replica_sets(self, key: Key, label: str) -> list[Manifest] | None:
        """None: they may not be listed."""
        selector = f"{names.LABEL_MANAGED}=true,{label}={key.name}"
        pages = self.cluster.pages(REPLICA_SET, key.namespace, selector)
        try:
            return [one async for page in pages for one in page.manifests]
        except RefusedError as error:
            logger.warning("ReplicaSets of %s may not be looked at: %s", key, error)
            return None
