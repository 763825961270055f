"""The condition Available: whether an endpoint answers, and if not, whether it starts or was lost.

It never depends on a rollout that is under way. A Service that leads past the pods is read from the Service
itself: its EndpointSlices would say so too, later and at the price of a watch on every pod's readiness.
"""

from __future__ import annotations

from typing import Final

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.status.conditions import Finding, false, troubled, true
from roundhouse_operator.core.status.scene import Scene, not_written

LOST: Final = frozenset({Reason.CRASH_LOOP, Reason.OOM_KILLED, Reason.ENDPOINT_LOST})
"""What the gateway tells clients as `unhealthy`; it lasts until a start succeeds or a spec changes."""


_STARTING: Final = "Pods were made and do not answer yet"
_LOADING: Final = "Its model is not loaded yet"


def find_available(scene: Scene, blocker: Finding | None) -> Finding:
    if scene.suspended:
        return false(Reason.SUSPENDED, "`spec.suspend` is true")
    if scene.upstream and not blocker:
        return true(Reason.UPSTREAM, "Requests go to the upstream")
    if scene.ready:
        return _answering(scene)
    if scene.wanted == 0 and not blocker:
        return _at_zero(scene)
    if blocker and not scene.frozen:
        return false(blocker.reason, "Nothing was started")
    return _not_answering(scene)


def _answering(scene: Scene) -> Finding:
    if scene.astray is not None:
        return false(Reason.NO_ENDPOINTS, f"{scene.ready} of {scene.wanted} pods are ready; {scene.astray}")
    return true(Reason.SERVING, f"{scene.ready} of {scene.wanted} pods answer")


def _at_zero(scene: Scene) -> Finding:
    """What crashed before it was put to sleep has not become well by that."""
    if scene.world.seat and scene.world.seat.inactive:
        return false(Reason.NOT_ACTIVE, "The engine has one active variant, and this is another")
    if not scene.demand:
        return false(Reason.SCALED_TO_ZERO, "`spec.replicas` is 0 and nothing wakes it")
    before = scene.world.variant.condition(ConditionType.AVAILABLE)
    if before and before["reason"] in LOST and _same_pods(scene):
        return _still_lost(Reason(before["reason"]), before["message"], None)
    return false(Reason.IDLE, "It sleeps, and a request wakes it")


def _not_answering(scene: Scene) -> Finding:
    """Pods are wanted and none answers: it starts, cannot start, or has been lost."""
    before = scene.world.variant.condition(ConditionType.AVAILABLE) if _same_pods(scene) else None
    trouble = scene.trouble
    if trouble and trouble.reason in LOST:
        return troubled(trouble)
    if before and before["status"] == "True":
        cause = f": {trouble.message}" if trouble else ""
        return false(Reason.ENDPOINT_LOST, f"It was serving, and no pod answers any more{cause}")
    if before and before["reason"] in LOST:
        return _still_lost(Reason(before["reason"]), before["message"], trouble)
    if trouble:
        return troubled(trouble)
    if scene.outcome.failure and not scene.frozen:
        return not_written(scene)
    return _starting(scene)


def _starting(scene: Scene) -> Finding:
    exam = scene.decision.exam
    if exam and exam.required and exam.candidate:
        return false(Reason.VERIFYING, "A pod was made and must pass its tests before it serves")
    return false(Reason.STARTING, _LOADING if scene.world.seat else _STARTING)


def _still_lost(reason: Reason, message: str, trouble: Trouble | None) -> Finding:
    """As it was, until what keeps the next pod from starting is known."""
    if trouble is None:
        return false(reason, message)
    return false(reason, f"No pod answers: {trouble.reason.value}: {trouble.message}", trouble.detail)


def _same_pods(scene: Scene) -> bool:
    """Whether the last status was about the pods of the same template, all of them rolled out."""
    variant, choice = scene.world.variant, scene.decision.choice
    engine = choice.engine if choice else None
    before, up_to_date = variant.status, variant.condition(ConditionType.UP_TO_DATE)
    lost = (variant.condition(ConditionType.AVAILABLE) or {}).get("reason") in LOST
    if scene.decision.turn.waits:
        return True  # nothing was changed yet
    same_engine = engine is None or (before.get("engine") or {}).get("generation") == engine.generation
    # What changed without being about pods is how many there are to be, above all.
    same_spec = before.get("observedGeneration") == variant.generation or not scene.decision.edited
    return same_spec and same_engine and (lost or (up_to_date or {}).get("status") != "False")
