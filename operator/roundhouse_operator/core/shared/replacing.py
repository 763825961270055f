"""Which way a pod of a shared engine is replaced, and who waits for a GPU meanwhile.

It is as with pods of a variant's own: a new one first where the nodes seem to have room for it, else the old
one first. A GPU that is given up for a moment is not for pods of the engine that wait for one and serve none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Device, EngineSpec, RolloutStrategy
from roundhouse_operator.core.kinds import DEPLOYMENT
from roundhouse_operator.core.observed import Pod, Rollout, Vacancy
from roundhouse_operator.core.placement import Fleet, Need
from roundhouse_operator.core.rollout.room import is_stuck, overdue_seconds, room_makers
from roundhouse_operator.core.rollout.strategy import (
    NEEDS_NO_GPU,
    NO_FREE_GPU,
    VOLUME_HELD,
    Strategy,
    by_room,
    read_strategy,
)
from roundhouse_operator.core.shared.replicas import Replica
from roundhouse_operator.core.shared.world import EngineWorld
from roundhouse_operator.core.sharing import shared_claim
from roundhouse_operator.core.weights.asked import Ask, AskedKind

SURGE: Final = Strategy(RolloutStrategy.SURGE, NEEDS_NO_GPU)
RECREATE: Final = Strategy(RolloutStrategy.RECREATE, NO_FREE_GPU)


@dataclass(frozen=True, slots=True)
class _Ground:
    """Some pods of the engine, and where there could be more."""

    pods: tuple[Pod, ...]
    rollout: Rollout | None
    fleet: Fleet
    taken: Mapping[str, Mapping[str, int]]
    vacancy: Vacancy | None
    now: int


def standing_way(world: EngineWorld, replica: Replica, need: Need) -> Strategy:
    """As its Deployment says, until the scheduler finds no room for a new pod beside the old one."""
    known = read_strategy(replica.strategy) or (SURGE if need.device is Device.CPU else RECREATE)
    stuck = known.kind is RolloutStrategy.SURGE and is_stuck(_ground_of(world, replica), need)
    return RECREATE if stuck else known


def awaited(world: EngineWorld, replica: Replica, need: Need) -> tuple[str, ...]:
    """Pods that still end, while a new one finds no room and gets theirs."""
    waits = any(pod.unschedulable is not None and not pod.scheduled for pod in replica.pods)
    return tuple(room_makers(_ground_of(world, replica), need)) if waits else ()


def again_seconds(world: EngineWorld, replicas: Iterable[Replica]) -> int | None:
    """When one of them waits no longer, though nobody reports a change."""
    return min(filter(None, (overdue_seconds(_ground_of(world, one)) for one in replicas)), default=None)


def _ground_of(world: EngineWorld, replica: Replica) -> _Ground:
    """Whatever pod of the engine ends, it makes room."""
    pods = (*replica.pods, *(pod for pod in world.pods if pod.ending))
    return _Ground(pods, replica.rollout, world.fleet, world.in_use, world.vacancy, world.now)


def chosen_way(world: EngineWorld, spec: EngineSpec, need: Need) -> Strategy:
    """For a pod that is about to be replaced."""
    claim = shared_claim(spec)
    answer = world.answers.get(Ask(AskedKind.CLAIM, claim)) if claim else None
    if claim and not (answer and answer.many_nodes):
        # It may be that the node of a new pod gets the volume only when the old one has let go of it.
        return Strategy(RolloutStrategy.RECREATE, VOLUME_HELD)
    ground = _Ground(world.pods, None, world.fleet, world.in_use, world.vacancy, world.now)
    return by_room(ground, need, sum(one.wanted for one in world.rollouts.values()))


def asked_for(spec: EngineSpec) -> frozenset[Ask]:
    """What has to be known before a pod is replaced: how many nodes can mount the claim of the weights."""
    claim = shared_claim(spec)
    return frozenset({Ask(AskedKind.CLAIM, claim)} if claim else ())


def with_way(deployment: Manifest, way: Strategy) -> Manifest:
    return {**deployment, "spec": {**deployment["spec"], "strategy": way.manifest}}


def without_pod(manifest: Manifest, names: frozenset[str]) -> Manifest:
    """A Deployment of one of these names for now has no pod; all else is as it is."""
    if manifest["kind"] != DEPLOYMENT.name or manifest["metadata"]["name"] not in names:
        return manifest
    return {**manifest, "spec": {**manifest["spec"], "replicas": 0}}


def withheld(replicas: Iterable[Replica]) -> frozenset[str]:
    """Those that are to have no pod as long as another's GPU is free for a moment."""
    replicas = tuple(replicas)
    return waiting(replicas) if any(is_recreated(one) for one in replicas) else frozenset()


def waiting(replicas: Iterable[Replica]) -> frozenset[str]:
    """Names of those that have no room, and had none before."""
    return frozenset(one.name for one in replicas if is_waiting(one))


def is_waiting(replica: Replica) -> bool:
    if replica.replaced or replica.labelled:
        return False
    rollout = replica.rollout
    if rollout and (not rollout.wanted or (rollout.refused and not replica.pods)):
        return True  # what a quota allows for is in use, as a GPU may be
    roomless = all(pod.unschedulable is not None and not pod.scheduled for pod in replica.pods)
    return bool(replica.pods) and roomless


def is_recreated(replica: Replica) -> bool:
    """Whether it has given up its GPU, and its next pod has none yet."""
    rollout, known = replica.rollout, read_strategy(replica.strategy)
    if rollout is None or known is None or not replica.replaced or known.kind is RolloutStrategy.SURGE:
        return False
    if rollout.current and (rollout.stalled or rollout.completed):
        return False
    there = any(pod.scheduled for pod in replica.pods)
    return not (rollout.current and rollout.updated == rollout.replicas == 1 and there)
