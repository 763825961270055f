"""The condition Scheduled: whether the pods have nodes, or would have some."""

from __future__ import annotations

from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_operator.core import placement
from roundhouse_operator.core.diagnose import cannot_be_made
from roundhouse_operator.core.status.conditions import Finding, false, troubled, true, unknown
from roundhouse_operator.core.status.scene import Scene, not_written

_SCHEDULING: Final = frozenset(
    {
        Reason.POD_REFUSED,
        Reason.QUOTA_EXCEEDED,
        Reason.QUEUED,
        Reason.SHARED_GPU,
        Reason.MIXED_GPUS,
        Reason.UNKNOWN_VRAM,
        Reason.INSUFFICIENT_VRAM,
        Reason.NO_GPU,
        Reason.INSUFFICIENT_GPU,
        Reason.INSUFFICIENT_RESOURCES,
        Reason.NO_MATCHING_NODE,
        Reason.UNSCHEDULABLE,
    }
)


def find_scheduled(scene: Scene, blocker: Finding | None) -> Finding:
    refusal = scene.outcome.refusal
    if scene.upstream:
        return true(Reason.UPSTREAM, "There are no pods to schedule")
    if scene.suspended:
        return unknown(Reason.SUSPENDED, "`spec.suspend` is true")
    living = (pod for pod in scene.world.pods if not pod.ending and not pod.failure)
    seat = scene.world.seat
    if scene.ready or any(pod.scheduled for pod in living) or (seat and seat.scheduled and scene.wanted):
        return true(Reason.SCHEDULED, "The pods have nodes")
    if refusal and not (refusal.about_spec or refusal.foreign or refusal.raced):
        reason = cannot_be_made(refusal.message).reason
        return false(reason, f"The API server refuses {refusal.child}: {refusal.message}")
    if scene.trouble and scene.trouble.reason in _SCHEDULING:
        return troubled(scene.trouble)
    return _without_pods(scene, blocker)


def _without_pods(scene: Scene, blocker: Finding | None) -> Finding:
    """What would become of pods if there were some."""
    if scene.outcome.failure and not scene.frozen:
        return not_written(scene)
    if scene.wanted and scene.frozen:
        return unknown(Reason.STARTING, "Pods are being made")
    if blocker:
        return unknown(blocker.reason, "No pod is wanted as long as this lasts")
    return _would_be_placed(scene)


def _would_be_placed(scene: Scene) -> Finding:
    survey, intent = scene.decision.survey, scene.decision.intent
    if scene.decision.unplaced:
        return troubled(scene.decision.unplaced)
    if scene.wanted or survey is None or intent is None:
        return unknown(Reason.PENDING, "Pods are about to be made")
    if survey.fitting:
        return true(Reason.FEASIBLE, "No pod is wanted, and one would have a node")
    return false(
        survey.obstacle, f"No pod is wanted, and none could run: it {placement.explain(intent.need, survey)}"
    )
