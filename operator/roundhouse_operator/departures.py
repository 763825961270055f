"""Before there are fewer pods: asks them what they have in hand, and has the busiest stay.

Best effort within a second: a pod that goes drains in any case, and nobody waits for one that does not say.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from roundhouse_api.names import ANNOTATION_DELETION_COST
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.observed import Pod, World
from roundhouse_operator.core.plan import Plan
from roundhouse_operator.core.rollout.parting import deletion_costs, who_may_go
from roundhouse_operator.errors import ClusterError

logger = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 1.0
LARGEST_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Departures:
    """Kubernetes ends pods of the lowest `pod-deletion-cost` first."""

    cluster: Cluster

    async def prepare(self, world: World, plan: Plan) -> None:
        """To be called before the plan is carried out."""
        pods = who_may_go(world, plan)
        if not pods:
            return
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            counts = await asyncio.gather(*(_in_use(session, pod) for pod in pods))
        costs = deletion_costs(pods, dict(zip((pod.name for pod in pods), counts, strict=True)))
        namespace = world.variant.namespace
        for name, cost in costs.items():
            body = {"metadata": {"annotations": {ANNOTATION_DELETION_COST: str(cost)}}}
            try:
                await self.cluster.patch_pod(namespace, name, body)
            except ClusterError as error:
                logger.info("Pod %s/%s is not marked as busy: %s", namespace, name, error)


async def _in_use(session: aiohttp.ClientSession, pod: Pod) -> int | None:
    """Requests that the pod's engine computes or is about to; None where it does not say."""
    try:
        async with session.get(f"http://{pod.address}/v1/models", allow_redirects=False) as response:
            body = await response.content.read(LARGEST_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
    return read_in_use(body)


def read_in_use(body: bytes) -> int | None:
    """Whatever it answers: that it cannot be read keeps no pod from going."""
    try:
        told: Any = json.loads(body)
        return max(int(model["inUse"]) for model in told["data"])
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError):
        return None
