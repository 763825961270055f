"""The condition UpToDate: whether the pods are those that the specs ask for now.

Of a variant, and of an Engine, which sums up how far a change of it has come among its variants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_operator.core.diagnose import Trouble, newest
from roundhouse_operator.core.observed import Rollout
from roundhouse_operator.core.rollout.line import Stand
from roundhouse_operator.core.rollout.room import room_makers
from roundhouse_operator.core.seat import Seat
from roundhouse_operator.core.status.conditions import Finding, false, troubled, true
from roundhouse_operator.core.status.scene import Scene

_ROOMLESS: Final = frozenset({Reason.INSUFFICIENT_GPU, Reason.INSUFFICIENT_RESOURCES, Reason.UNSCHEDULABLE})
_ROLLED_OUT: Final = "All pods are of the newest template"
_CHANGING: Final = "The Deployment is being made or changed"
NOBODY_WAITS: Final = Stand()
_NAMED: Final = 3


def find_up_to_date(scene: Scene, blocker: Finding | None) -> Finding:
    rollout, stays = scene.world.rollout, scene.decision.stays or _awaited(scene)
    if scene.upstream and not blocker:
        return true(Reason.UPSTREAM, "There are no pods to roll out")
    if stays:
        return troubled(stays)
    if blocker:
        return false(blocker.reason, "Nothing is rolled out as long as this lasts")
    refusal = scene.outcome.refusal
    if refusal and not refusal.raced:
        return false(Reason.POD_REFUSED, f"The API server refuses {refusal.child}: {refusal.message}")
    if rollout is None or not rollout.current or refusal:
        seat = scene.world.seat if rollout is None else None
        return _seated(scene, seat) if seat else false(Reason.ROLLING_OUT, _CHANGING)
    changing = scene.decision.turn.told is not None
    going_on = changing or rollout.updated < scene.wanted or rollout.replicas > rollout.updated
    return _rolling_out(scene, rollout) if going_on else true(Reason.ROLLED_OUT, _ROLLED_OUT)


def _awaited(scene: Scene) -> Trouble | None:
    """Weights that are to come before the pods are changed, while those answer."""
    weights = scene.decision.weights
    if weights is None or weights.ready or not scene.ready:
        return None
    return Trouble(weights.reason, f"The pods have the weights of before: {weights.message}", weights.detail)


def _rolling_out(scene: Scene, rollout: Rollout) -> Finding:
    """The reason is that of what keeps the new pods from starting, if anything does."""
    answering = sum(pod.ready for pod in newest(scene.world.pods)) if rollout.updated else 0
    figures = f"{answering} of {scene.wanted} pods of the newest template are ready"
    if (old := rollout.replicas - rollout.updated) > 0:
        figures += f"; {old} of an older one"
    if scene.trouble is None:
        return false(Reason.ROLLING_OUT, figures)
    need = scene.decision.intent.need if scene.decision.intent else None
    if need and scene.trouble.reason in _ROOMLESS and (ending := room_makers(scene.world, need)):
        figures += _making_room(ending)
    return false(scene.trouble.reason, f"{figures}: {scene.trouble.message}", scene.trouble.detail)


def _making_room(ending: Sequence[str]) -> str:
    named = ", ".join(map(repr, ending[:_NAMED]))
    return f"; {named} still {'end, and make' if len(ending) > 1 else 'ends, and makes'} room"


def _seated(scene: Scene, seat: Seat) -> Finding:
    """In pods that it shares: loaded in all of its places, and in no other any more."""
    if seat.updated >= seat.wanted and not seat.moving:
        return true(Reason.ROLLED_OUT, f"{seat.wanted} copies are loaded in pods of the newest template")
    figures = f"{seat.updated} of {seat.wanted} copies are loaded in pods of the newest template"
    if seat.moving:
        figures += "; it still has a place that it is to leave"
    if seat.awaited:
        figures += _making_room(seat.awaited)
    why = scene.trouble or seat.behind
    if why is None:
        return false(Reason.ROLLING_OUT, figures)
    return false(why.reason, f"{figures}: {why.message}", why.detail)


def find_engine_up_to_date(variants: int, stand: Stand) -> Finding:
    """`variants` use the engine. Names of those in flight, not of those that wait: they may be thousands."""
    if stand.failing:
        name, reason = stand.failing[0]
        return false(
            Reason.ROLLOUT_PAUSED,
            f"Stopped at variant {name!r}, which fails with it ({reason.value}); "
            f"{stand.waiting} of {variants} variants wait",
        )
    if stand.waiting or stand.in_flight:
        changing = f"; now {', '.join(stand.in_flight[:_NAMED])}" if stand.in_flight else ""
        return false(Reason.ROLLING_OUT, f"{stand.waiting} of {variants} variants wait{changing}")
    if stand.behind:
        return false(Reason.ROLLING_OUT, f"{stand.behind} of {variants} variants are not of this generation")
    return true(Reason.ROLLED_OUT, f"All {variants} variants are of this generation")
