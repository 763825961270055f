"""The status of a variant that was deleted and is still there: who holds it, and whether its pods answer.

Nothing is made or changed for it any more: whether it answers is as its pods are, and all else that was told
of it stays as it was.
"""

from __future__ import annotations

from typing import Final

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.model import Manifest
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.ids import Award
from roundhouse_operator.core.kinds import DEPLOYMENT
from roundhouse_operator.core.observed import World
from roundhouse_operator.core.outcome import DONE
from roundhouse_operator.core.own import child_of
from roundhouse_operator.core.status.available import find_available
from roundhouse_operator.core.status.conditions import Finding, false, true, write_conditions
from roundhouse_operator.core.status.scene import build_scene
from roundhouse_operator.core.status.variant import count_replicas

_CASCADES: Final = {
    "foregroundDeletion": "Kubernetes deletes what belongs to it first",
    "orphan": "Kubernetes lets go of what belongs to it first",
}
"""Finalizers of Kubernetes itself, which takes them away when that is done."""
_NOTHING_DECIDED: Final = Decision(Award((), {}))


def ending_status(world: World, *, now: str) -> Manifest:
    variant, available = world.variant, _find_available(world)
    before = variant.status.get("conditions") or ()
    told = write_conditions(
        {ConditionType.READY: false(Reason.BEING_DELETED, _why(world)), ConditionType.AVAILABLE: available},
        before,
        generation=variant.generation,
        now=now,
    )
    by_type = {one["type"]: one for one in (*before, *told)}
    return {
        **variant.status,
        "observedGeneration": variant.generation,
        "conditions": [by_type[kind.value] for kind in ConditionType if kind.value in by_type],
        "phase": "Running" if available.holds else "Ending",
        **count_replicas(world),
    }


def _find_available(world: World) -> Finding:
    before = world.variant.condition(ConditionType.AVAILABLE)
    if before and before["reason"] == Reason.UPSTREAM.value:
        return true(Reason.UPSTREAM, before["message"])
    scene = build_scene(world, _NOTHING_DECIDED, DONE)
    if scene.ready:
        return find_available(scene, None)
    return false(Reason.BEING_DELETED, "No pod answers")


def _why(world: World) -> str:
    """What is to be seen to, where it is not Kubernetes that is at work."""
    finalizers = world.variant.finalizers
    others = ", ".join(repr(one) for one in finalizers if one not in _CASCADES)
    cascades = [_CASCADES[one] for one in finalizers if one in _CASCADES]
    if cascades and not others:
        return f"It was deleted; {cascades[0]}"
    held = f"It was deleted, and is kept by {others or 'a finalizer'}; nothing about it is changed"
    if cascades:
        return f"{held}; {cascades[0]}"
    return f"{held}, and its pods go with it" if child_of(world, DEPLOYMENT) else held
