"""Which way pods are replaced: a new one first, or an old one first.

A surge needs room. What is known of the nodes says whether there seems to be some; the scheduler says
whether there is, and when a new pod finds none while old ones run, an old one goes first. Where no pod is
ready none is worth keeping beside its successor. The Deployment itself remembers the way, so that a restart
of the operator changes nothing; a change of it starts no pod.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Device, RolloutPolicy, RolloutStrategy
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.observed import World
from roundhouse_operator.core.placement import Need
from roundhouse_operator.core.rollout.room import Ground, has_room, is_only_kept_out, is_stuck, made_free
from roundhouse_operator.core.rollout.turn import old_pods
from roundhouse_operator.core.weights.mounting import holders, look_at_mounts

REQUESTED: Final = "Requested"
FREE_GPU: Final = "FreeGPU"
NO_FREE_GPU: Final = "NoFreeGPU"
NEEDS_NO_GPU: Final = "NeedsNoGPU"
NO_ROOM: Final = "NoRoom"
VOLUME_HELD: Final = "VolumeHeld"
NOTHING_READY: Final = "NothingReady"
NO_NODE_FITS: Final = "NoNodeFits"
GPUS_NOT_COUNTED: Final = "GPUsNotCounted"
_REASONS: Final = {
    (RolloutStrategy.SURGE, True): (FREE_GPU, NO_NODE_FITS, GPUS_NOT_COUNTED),
    (RolloutStrategy.RECREATE, True): (NO_FREE_GPU, VOLUME_HELD, NO_ROOM, NOTHING_READY),
    (RolloutStrategy.SURGE, False): (NEEDS_NO_GPU,),
    (RolloutStrategy.RECREATE, False): (NO_ROOM, VOLUME_HELD, NOTHING_READY),
}
"""By way and by whether it is about GPUs; the first where the status tells none of them."""
_FOR_ONCE: Final = frozenset({NO_ROOM, VOLUME_HELD})
"""What is over with the rollout that it was told of."""


@dataclass(frozen=True, slots=True)
class Strategy:
    kind: RolloutStrategy
    reason: str
    at_once: int = 1
    """Under Recreate: old pods that must go before a new one has room."""

    @property
    def manifest(self) -> Manifest:
        # Never Kubernetes' own `Recreate`: it ends all pods before the first new one starts.
        surge = self.kind is RolloutStrategy.SURGE
        amounts = (
            {"maxSurge": 1, "maxUnavailable": 0} if surge else {"maxSurge": 0, "maxUnavailable": self.at_once}
        )
        return {"type": "RollingUpdate", "rollingUpdate": amounts}


def choose_strategy(world: World, intent: Intent, live: Manifest | None, *, changing: bool) -> Strategy:
    """`live` is the Deployment's strategy; `changing` says that this pass gives it another template."""
    policy = intent.variant.rollout and intent.variant.rollout.strategy
    if policy is RolloutPolicy.SURGE:
        return Strategy(RolloutStrategy.SURGE, REQUESTED)
    if policy is RolloutPolicy.RECREATE:
        at_once = max(_at_once(world, intent.need), _held_up(world, intent))
        return Strategy(RolloutStrategy.RECREATE, REQUESTED, at_once)
    known = read_strategy(live)
    if changing and _nothing_to_lose(world, intent.need):
        return Strategy(RolloutStrategy.RECREATE, NOTHING_READY, _at_once(world, intent.need))
    return _choose(world, intent) if known is None or changing else _keep(world, intent, known)


def _nothing_to_lose(world: World, need: Need) -> bool:
    """No pod answers, so an old one beside a new one would only hold what that one could have.

    But where no node could hold a new one, an old one may yet get ready.
    """
    there = world.rollout is not None and world.rollout.current and world.rollout.replicas > 0
    return there and _none_ready(world) and bool(world.fleet.survey(need).fitting)


def _none_ready(world: World) -> bool:
    return world.rollout is None or not world.rollout.ready


def _keep(world: World, intent: Intent, known: Strategy) -> Strategy:
    """The way that the Deployment goes stands, until the scheduler says otherwise."""
    told: str = (world.variant.status.get("rollout") or {}).get("reason") or ""
    reasons = _REASONS[known.kind, intent.need.device is Device.GPU]
    if not _in_flight(world):
        over = told in _FOR_ONCE or (told == NOTHING_READY and not _none_ready(world))
        return _choose(world, intent) if over or told not in reasons else replace(known, reason=told)
    if held := _held_up(world, intent):
        if known.kind is RolloutStrategy.RECREATE and known.at_once >= held:
            return replace(known, reason=VOLUME_HELD)
        return Strategy(RolloutStrategy.RECREATE, VOLUME_HELD, held)
    if known.kind is RolloutStrategy.SURGE and is_stuck(world, intent.need):
        known = _one_by_one(world, intent.need)
        reasons = _REASONS[known.kind, intent.need.device is Device.GPU]
    elif known.kind is RolloutStrategy.RECREATE and told not in reasons and _none_ready(world):
        return replace(known, reason=NOTHING_READY)
    if known.kind is RolloutStrategy.RECREATE and told not in reasons and is_only_kept_out(world):
        return replace(known, reason=NO_ROOM)
    return replace(known, reason=told if told in reasons else reasons[0])


def _choose(world: World, intent: Intent) -> Strategy:
    return by_room(world, intent.need, intent.replicas, among=look_at_mounts(world, intent.delivery).nodes)


def by_room(world: Ground, need: Need, wanted: int, *, among: frozenset[str] = frozenset()) -> Strategy:
    """As `has_room` says, where that can be said."""
    if need.device is Device.CPU:
        return Strategy(RolloutStrategy.SURGE, NEEDS_NO_GPU)
    if has_room(world, need, wanted, among=among):
        return Strategy(RolloutStrategy.SURGE, FREE_GPU)
    if not world.fleet.survey(need).fitting:
        # To end an old pod would help nobody: it serves until there is a node for its successor.
        return Strategy(RolloutStrategy.SURGE, NO_NODE_FITS)
    if need.claims:
        # What is claimed of a device stands in no pod: the scheduler will say whether one is left.
        return Strategy(RolloutStrategy.SURGE, GPUS_NOT_COUNTED)
    return _one_by_one(world, need)


def _one_by_one(world: Ground, need: Need) -> Strategy:
    reason, *_ = _REASONS[RolloutStrategy.RECREATE, need.device is Device.GPU]
    return Strategy(RolloutStrategy.RECREATE, reason, _at_once(world, need))


def _in_flight(world: World) -> bool:
    rollout = world.rollout
    return rollout is not None and (
        not rollout.current or old_pods(rollout) > 0 or rollout.updated < rollout.wanted
    )


def read_strategy(live: Manifest | None) -> Strategy | None:
    """A strategy of ours as it stands in a Deployment; None for anybody else's."""
    match live:
        case {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}:
            return Strategy(RolloutStrategy.SURGE, "")
        case {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": int(at_once)}} if at_once > 0:
            return Strategy(RolloutStrategy.RECREATE, "", at_once)
        case _:
            return None


def _held_up(world: World, intent: Intent) -> int:
    """Old pods that keep a volume from the node of a new one: all of them must go before that one starts."""
    return len(holders(world, look_at_mounts(world, intent.delivery)))


def _at_once(world: Ground, need: Need) -> int:
    """How many old pods must go, where that is fewest, until a new one has its devices."""
    return min(made_free(world, need), default=1)
