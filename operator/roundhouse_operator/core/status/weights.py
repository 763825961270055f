"""The condition WeightsReady: whether the weights are where a pod can read them.

Pods that answer have theirs. What of newer ones is still to come is told by `UpToDate`, and by `Degraded`
where it does not come.
"""

from __future__ import annotations

from roundhouse_api.conditions import Reason
from roundhouse_operator.core.status.conditions import Finding, false, true, unknown
from roundhouse_operator.core.status.scene import Scene


def find_weights_ready(scene: Scene) -> Finding:
    weights = scene.decision.weights
    if scene.upstream:
        return true(Reason.UPSTREAM, "The upstream has its own")
    if weights is None:
        return unknown(Reason.PENDING, "Not looked at: there is no engine for it yet")
    if weights.there or scene.ready:
        pods = (Reason.DOWNLOADED, "The pods that answer have theirs")
        return true(*((weights.reason, weights.message) if weights.there else pods))
    if weights.reason is Reason.SUSPENDED:
        return unknown(weights.reason, weights.message)
    if refusal := scene.outcome.cache_refusal:
        return false(Reason.CACHE_REFUSED, f"The API server refuses {refusal.child}: {refusal.message}")
    return false(weights.reason, weights.message, weights.detail)
