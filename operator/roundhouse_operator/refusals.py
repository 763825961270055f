"""Asks ReplicaSets why pods cannot be created, where a Deployment says that they cannot.

Nobody watches ReplicaSets: they are asked about only then, and are as seldom as what is refused.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

from roundhouse_api import names
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import DEPLOYMENT, REPLICA_SET
from roundhouse_operator.core.newest import newest_refusal
from roundhouse_operator.core.observed import World
from roundhouse_operator.core.own import child_of
from roundhouse_operator.errors import RefusedError

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 10.0
"""A ReplicaSet that has failed at nothing yet may do so in a moment, and no Deployment tells of that."""


@dataclass(frozen=True, slots=True)
class Refusals:
    cluster: Cluster

    async def look(self, world: World) -> World:
        """With what is refused now, instead of what was refused first."""
        rollout, deployment = world.rollout, child_of(world, DEPLOYMENT)
        if rollout is None or deployment is None or rollout.refused is None:
            return world
        selector = f"{names.LABEL_MANAGED}=true,{names.LABEL_VARIANT}={world.variant.name}"
        pages = self.cluster.pages(REPLICA_SET, world.variant.namespace, selector)
        try:
            found = [one async for page in pages for one in page.manifests]
        except RefusedError as error:
            logger.warning("ReplicaSets of %s may not be looked at: %s", world.variant.key, error)
            return world
        return replace(world, rollout=replace(rollout, refused=newest_refusal(found, deployment.uid)))
