"""The pod of a variant: the engine's container and what stands around it.

The parts are in `env`, `probes`, `resources` and `security`; the engine's `podTemplate` is laid over the
result by `overlay`.
"""

from __future__ import annotations

from typing import Any, Final

from roundhouse_api import names
from roundhouse_api.model import Manifest, Model
from roundhouse_api.names import READINESS_GATE_LOADED
from roundhouse_operator.core.desired.claims import build_resource_claims
from roundhouse_operator.core.desired.env import build_env
from roundhouse_operator.core.desired.gate import with_gate
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.desired.models import shared_mounts, shared_volumes
from roundhouse_operator.core.desired.overlay import strategic_merge
from roundhouse_operator.core.desired.probes import build_probes
from roundhouse_operator.core.desired.resources import build_affinity, build_resources
from roundhouse_operator.core.desired.security import build_container_security, build_pod_security, scratch
from roundhouse_operator.core.desired.weights import build_pod_weights

CONTAINER: Final = "engine"
EXIT_SECONDS: Final = 15
"""Between the end of draining and the kernel's SIGKILL."""


def build_pod_template(intent: Intent) -> Manifest:
    annotations = dict(intent.restarts)
    if intent.delivery.store:
        annotations[names.ANNOTATION_WEIGHTS] = intent.delivery.store
    metadata = _present({"labels": {**intent.labels, **intent.queue_labels}, "annotations": annotations})
    template: Manifest = {"metadata": metadata, "spec": _pod_spec(intent)}
    merged: Manifest = strategic_merge(template, intent.workload.pod_template or {})
    return with_gate(intent.variant.verification, merged)


def _pod_spec(intent: Intent) -> Manifest:
    workload, hardware = intent.workload, intent.merged.hardware
    weights = build_pod_weights(intent.delivery, intent.loader)
    return _present(
        {
            "initContainers": weights.init,
            "containers": [_container(intent, weights.mounts)],
            "volumes": [*weights.volumes, *shared_volumes(intent), *scratch(intent.merged.dialect).volumes],
            "securityContext": {**build_pod_security(intent.merged.dialect), **weights.security},
            "terminationGracePeriodSeconds": intent.drain_seconds + EXIT_SECONDS,
            "enableServiceLinks": False,
            # A token would let whoever breaks into a model talk to the API server.
            "automountServiceAccountToken": None if workload.service_account_name else False,
            "serviceAccountName": workload.service_account_name,
            "imagePullSecrets": [*map(_dump, workload.image_pull_secrets), *weights.pull_secrets],
            "priorityClassName": workload.priority_class_name,
            "runtimeClassName": workload.runtime_class_name,
            "nodeSelector": hardware.node_selector,
            "tolerations": [_dump(one) for one in hardware.tolerations or ()],
            "affinity": build_affinity(intent),
            "resourceClaims": build_resource_claims(intent),
            "readinessGates": [{"conditionType": READINESS_GATE_LOADED}] if intent.models_file else None,
        }
    )


def _container(intent: Intent, weights: list[Manifest]) -> Manifest:
    workload = intent.workload
    return _present(
        {
            "name": CONTAINER,
            "image": workload.image,
            "imagePullPolicy": workload.image_pull_policy,
            "command": list(workload.command),
            "args": [*workload.args, *intent.variant.args],
            "env": build_env(intent),
            "envFrom": [_dump(one) for one in workload.env_from],
            "ports": [{"name": "http", "containerPort": intent.engine.api.port, "protocol": "TCP"}],
            "resources": build_resources(intent),
            "volumeMounts": [*weights, *shared_mounts(intent), *scratch(intent.merged.dialect).mounts],
            "securityContext": build_container_security(intent.merged.dialect),
            # The last lines of the log become part of the condition when the engine ends.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            **build_probes(intent.engine),
        }
    )


def _dump(model: Model) -> Manifest:
    return model.model_dump(by_alias=True, exclude_none=True, mode="json")


def _present(members: dict[str, Any]) -> Manifest:
    """Without what is not said: the API server's own defaults apply."""
    return {name: value for name, value in members.items() if value is not None and value not in ([], {}, "")}
