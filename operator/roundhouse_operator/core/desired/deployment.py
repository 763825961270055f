"""The Deployment of a variant: how many pods, and how a change replaces them."""

from __future__ import annotations

from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.desired.pod import build_pod_template
from roundhouse_operator.core.desired.probes import startup_seconds
from roundhouse_operator.core.kinds import DEPLOYMENT

GRACE_SECONDS: Final = 300
"""For a node, and for the image to be pulled, before a start counts as stalled."""
REVISIONS: Final = 2
READY_SECONDS: Final = 2
"""A new pod answers for so long before an old one goes for it: gateways have heard of it by then."""


def build_deployment(intent: Intent) -> Manifest:
    return {
        **intent.metadata(DEPLOYMENT),
        "spec": {
            "replicas": intent.replicas,
            "selector": {"matchLabels": intent.pod_labels},
            "strategy": intent.strategy,
            "minReadySeconds": READY_SECONDS,
            "revisionHistoryLimit": REVISIONS,
            "progressDeadlineSeconds": startup_seconds(intent.engine.probes) + GRACE_SECONDS,
            "template": build_pod_template(intent),
        },
    }
