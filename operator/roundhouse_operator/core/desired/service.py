"""The headless Service of a variant.

The gateway takes addresses from its EndpointSlices, and Prometheus finds the engine's metrics by its port
named `metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.kinds import SERVICE

METRICS_PORT: Final = 9090


def build_service(intent: Intent) -> Manifest:
    head = intent.metadata(SERVICE)
    # On a child that is written after the pods' template, and where it starts no rollout.
    head["metadata"]["annotations"] = {names.ANNOTATION_VARIANT_SPEC: intent.digest}
    return {**head, "spec": service_spec(intent.pod_labels, intent.engine.api.port)}


def service_spec(selector: Mapping[str, str], port: int) -> Manifest:
    """`port` is the engine's own."""
    metrics = METRICS_PORT if port != METRICS_PORT else METRICS_PORT + 1
    return {
        "type": "ClusterIP",
        "clusterIP": "None",
        "selector": dict(selector),
        "ports": [_port("http", port), _port("metrics", metrics)],
    }


def _port(name: str, number: int) -> Manifest:
    return {"name": name, "port": number, "protocol": "TCP", "targetPort": "http"}
