"""The condition Ready: a request is answered now or, where requests wake the variant, after a cold start.

It holds when the spec is accepted, an engine is selected, the weights are there, pods have nodes and an
endpoint answers, and its reason is that of the first of these that fails. A variant that sleeps under Demand
is ready to be woken, and stays so while it is.
"""

from __future__ import annotations

from roundhouse_api.conditions import ConditionStatus, ConditionType, Reason
from roundhouse_operator.core.status.conditions import Finding, ready, true
from roundhouse_operator.core.status.scene import Scene


def find_ready(
    scene: Scene,
    given: tuple[Finding, ...],
    scheduled: Finding,
    available: Finding,
    gate: tuple[Finding, ...],
) -> Finding:
    """`given` is what pods are made from, `gate` what they have to pass."""
    if available.reason is Reason.IDLE:
        return ready((*given, scheduled, *gate), true(Reason.IDLE, available.message))
    if _wakes(scene, available):
        told = true(Reason.STARTING, "It is being woken, and requests wait for it meanwhile")
        return ready((*given, *_failing(scheduled), *gate), told)
    return ready((*given, scheduled, available, *gate), available)


def _wakes(scene: Scene, available: Finding) -> bool:
    before = scene.world.variant.condition(ConditionType.READY)
    was_ready = before is not None and before["status"] == "True"
    return scene.demand and was_ready and available.reason is Reason.STARTING


def _failing(finding: Finding) -> tuple[Finding, ...]:
    """Pods that are being made have no node yet."""
    return (finding,) if finding.status is ConditionStatus.FALSE else ()
