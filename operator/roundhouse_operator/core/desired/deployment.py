"""The Deployment of a variant: how many pods, and how a change replaces them."""

from __future__ import annotations

from typing import Final

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import CacheType
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.desired.pod import build_pod_template
from roundhouse_operator.core.desired.weights import DEADLINE_SECONDS
from roundhouse_operator.core.kinds import DEPLOYMENT
from roundhouse_operator.core.startup import startup_of

GRACE_SECONDS: Final = 300
"""For a node, and for the image to be pulled, before a start counts as stalled."""
REVISIONS: Final = 2
READY_SECONDS: Final = 2
"""A new pod answers for so long before an old one goes for it: gateways have heard of it by then."""


def build_deployment(intent: Intent) -> Manifest:
    manifest = intent.metadata(DEPLOYMENT)
    cache = intent.engine.cache
    if cache and cache.type is CacheType.IMAGE_VOLUME:
        # What its pods do stands while they run, as long as they were made for this cache.
        manifest["metadata"]["annotations"] = {names.ANNOTATION_CACHE: cache.type.value}
    return {
        **manifest,
        "spec": {
            "replicas": intent.replicas,
            "selector": {"matchLabels": intent.pod_labels},
            "strategy": intent.strategy,
            "minReadySeconds": READY_SECONDS,
            "revisionHistoryLimit": REVISIONS,
            "progressDeadlineSeconds": _deadline_seconds(intent),
            "template": build_pod_template(intent),
        },
    }


def _deadline_seconds(intent: Intent) -> int:
    """Weights that come with the pod come before its engine starts, and large ones take hours."""
    loading = DEADLINE_SECONDS if intent.delivery.loads_in_pod else 0
    return startup_of(intent.engine.probes).seconds + GRACE_SECONDS + loading
