"""The Deployment of a variant: how many pods, and how a change replaces them."""

from __future__ import annotations

from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import RolloutPolicy, RolloutStrategy
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.desired.pod import build_pod_template
from roundhouse_operator.core.desired.probes import startup_seconds
from roundhouse_operator.core.kinds import DEPLOYMENT

GRACE_SECONDS: Final = 300
"""For a node, and for the image to be pulled, before a start counts as stalled."""
REVISIONS: Final = 2


def build_deployment(intent: Intent) -> Manifest:
    return {
        **intent.metadata(DEPLOYMENT),
        "spec": {
            "replicas": intent.replicas,
            "selector": {"matchLabels": intent.pod_labels},
            "strategy": _strategy(intent),
            "revisionHistoryLimit": REVISIONS,
            "progressDeadlineSeconds": startup_seconds(intent.engine.probes) + GRACE_SECONDS,
            "template": build_pod_template(intent),
        },
    }


def rollout_strategy(intent: Intent) -> tuple[RolloutStrategy, str]:
    """Which way pods are replaced, and why in one word.

    A pod that holds a GPU goes before its successor comes: on the last GPU a surge would wait for ever.
    """
    asked = intent.variant.rollout.strategy if intent.variant.rollout else None
    match asked:
        case RolloutPolicy.SURGE:
            return RolloutStrategy.SURGE, "Requested"
        case RolloutPolicy.RECREATE:
            return RolloutStrategy.RECREATE, "Requested"
        case RolloutPolicy.AUTO | None:
            if intent.need.resource:
                return RolloutStrategy.RECREATE, "HoldsGPU"
            return RolloutStrategy.SURGE, "NeedsNoGPU"


def _strategy(intent: Intent) -> Manifest:
    surge = rollout_strategy(intent)[0] is RolloutStrategy.SURGE
    # One pod after the other either way: `Recreate` would end all of them before the first new one starts.
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}
        if surge
        else {"maxSurge": 0, "maxUnavailable": 1},
    }
