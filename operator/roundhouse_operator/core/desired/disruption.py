"""The PodDisruptionBudget of a variant: a node is drained, or a cluster upgraded, one of its pods at a time.

A single pod gets none: nothing would be left when it goes, so a budget could only forbid the drain. Pods
that are not ready stand in nobody's way.
"""

from __future__ import annotations

from roundhouse_api.model import Manifest
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.kinds import DISRUPTION_BUDGET


def build_disruption_budget(intent: Intent) -> tuple[Manifest, ...]:
    if intent.replicas < 2:
        return ()
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": intent.pod_labels},
    }
    return ({**intent.metadata(DISRUPTION_BUDGET), "spec": spec},)
