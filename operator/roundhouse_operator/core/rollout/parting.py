"""Which pods end first when there are to be fewer: those that have least in hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from roundhouse_operator.core.kinds import DEPLOYMENT
from roundhouse_operator.core.observed import Pod, World
from roundhouse_operator.core.plan import Plan

MOST: Final = 64
"""Pods that are asked what they have in hand."""
UNKNOWN: Final = 1
"""The cost of one that does not say: it may be busy."""


def who_may_go(world: World, plan: Plan) -> tuple[Pod, ...]:
    """Pods of which the plan ends some; none where it ends all of them or none."""
    apply = next((one for one in plan.applies if one.kind == DEPLOYMENT and not one.new), None)
    staying = apply.manifest["spec"].get("replicas") if apply else None
    if world.rollout is None or not staying or staying >= world.rollout.wanted:
        return ()
    pods = (pod for pod in world.pods if pod.ready and not pod.ending and pod.address)
    return tuple(sorted(pods, key=lambda pod: pod.name))[:MOST]


def deletion_costs(pods: tuple[Pod, ...], in_use: Mapping[str, int | None]) -> dict[str, int]:
    """By name of the pod; nothing where all are alike, as Kubernetes then goes by age and place."""
    costs = {pod.name: UNKNOWN if (count := in_use.get(pod.name)) is None else count for pod in pods}
    return costs if len(set(costs.values())) > 1 else {}
