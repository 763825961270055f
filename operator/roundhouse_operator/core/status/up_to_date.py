"""The condition UpToDate: whether the pods are those that the specs ask for now."""

from __future__ import annotations

from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_operator.core.diagnose import newest
from roundhouse_operator.core.observed import Rollout
from roundhouse_operator.core.status.conditions import Finding, false, troubled, true
from roundhouse_operator.core.status.scene import Scene

_ROLLED_OUT: Final = "All pods are of the newest template"


def find_up_to_date(scene: Scene, blocker: Finding | None) -> Finding:
    rollout, held = scene.world.rollout, scene.decision.held
    if scene.upstream and not blocker:
        return true(Reason.UPSTREAM, "There are no pods to roll out")
    if held:
        return troubled(held)
    if blocker:
        return false(blocker.reason, "Nothing is rolled out as long as this lasts")
    if refusal := scene.outcome.refusal:
        return false(Reason.POD_REFUSED, f"The API server refuses {refusal.child}: {refusal.message}")
    if rollout is None or not rollout.current:
        return false(Reason.ROLLING_OUT, "The Deployment is being made or changed")
    going_on = rollout.updated < scene.wanted or rollout.replicas > rollout.updated
    return _rolling_out(scene, rollout) if going_on else true(Reason.ROLLED_OUT, _ROLLED_OUT)


def _rolling_out(scene: Scene, rollout: Rollout) -> Finding:
    """The reason is that of what keeps the new pods from starting, if anything does."""
    answering = sum(pod.ready for pod in newest(scene.world.pods)) if rollout.updated else 0
    figures = f"{answering} of {scene.wanted} pods of the newest template are ready"
    if (old := rollout.replicas - rollout.updated) > 0:
        figures += f"; {old} of an older one"
    if scene.trouble is None:
        return false(Reason.ROLLING_OUT, figures)
    return false(scene.trouble.reason, f"{figures}: {scene.trouble.message}", scene.trouble.detail)
