"""The pod of a variant: the engine's container and what stands around it.

The parts are in `env`, `probes`, `resources` and `security`; the engine's `podTemplate` is laid over the
result by `overlay`.
"""

from __future__ import annotations

from typing import Any, Final

from roundhouse_api.model import Manifest, Model
from roundhouse_api.v1alpha1 import PVCSource, Source
from roundhouse_operator.core.desired.claims import build_resource_claims
from roundhouse_operator.core.desired.env import build_env
from roundhouse_operator.core.desired.gate import with_gate
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.desired.overlay import strategic_merge
from roundhouse_operator.core.desired.probes import build_probes
from roundhouse_operator.core.desired.resources import build_affinity, build_resources
from roundhouse_operator.core.desired.security import build_container_security, build_pod_security, scratch
from roundhouse_operator.core.weights import WEIGHTS_PATH

CONTAINER: Final = "engine"
EXIT_SECONDS: Final = 15
"""Between the end of draining and the kernel's SIGKILL."""


def build_pod_template(intent: Intent) -> Manifest:
    metadata = _present(
        {"labels": {**intent.labels, **intent.queue_labels}, "annotations": dict(intent.restarts)}
    )
    template: Manifest = {"metadata": metadata, "spec": _pod_spec(intent)}
    merged: Manifest = strategic_merge(template, intent.workload.pod_template or {})
    return with_gate(intent.variant.verification, merged)


def _pod_spec(intent: Intent) -> Manifest:
    workload, hardware = intent.workload, intent.merged.hardware
    return _present(
        {
            "containers": [_container(intent)],
            "volumes": [*_volume(intent.variant.source), *scratch(intent.merged.dialect).volumes],
            "securityContext": build_pod_security(intent.merged.dialect),
            "terminationGracePeriodSeconds": intent.drain_seconds + EXIT_SECONDS,
            "enableServiceLinks": False,
            # A token would let whoever breaks into a model talk to the API server.
            "automountServiceAccountToken": None if workload.service_account_name else False,
            "serviceAccountName": workload.service_account_name,
            "imagePullSecrets": [_dump(one) for one in workload.image_pull_secrets],
            "priorityClassName": workload.priority_class_name,
            "runtimeClassName": workload.runtime_class_name,
            "nodeSelector": hardware.node_selector,
            "tolerations": [_dump(one) for one in hardware.tolerations or ()],
            "affinity": build_affinity(intent),
            "resourceClaims": build_resource_claims(intent),
        }
    )


def _container(intent: Intent) -> Manifest:
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
            "volumeMounts": [*_mount(intent.variant.source), *scratch(intent.merged.dialect).mounts],
            "securityContext": build_container_security(intent.merged.dialect),
            # The last lines of the log become part of the condition when the engine ends.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            **build_probes(intent.engine),
        }
    )


def _volume(source: Source) -> list[Manifest]:
    claim: PVCSource | None = source.pvc
    if claim is None:
        return []
    return [{"name": "weights", "persistentVolumeClaim": {"claimName": claim.claim_name, "readOnly": True}}]


def _mount(source: Source) -> list[Manifest]:
    return [{"name": "weights", "mountPath": WEIGHTS_PATH, "readOnly": True}] if source.pvc else []


def _dump(model: Model) -> Manifest:
    return model.model_dump(by_alias=True, exclude_none=True, mode="json")


def _present(members: dict[str, Any]) -> Manifest:
    """Without what is not said: the API server's own defaults apply."""
    return {name: value for name, value in members.items() if value is not None and value not in ([], {}, "")}
