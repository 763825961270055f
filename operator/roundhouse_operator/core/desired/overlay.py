"""`workload.podTemplate`: a strategic merge patch over the generated pod template, and what it may not set.

Items of a list are told apart by the keys that Kubernetes uses; a list without keys is replaced. What a
typed field of the resource sets is refused here, whether or not that field is set, so that there is one
place to look for it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from roundhouse_api.model import Manifest
from roundhouse_api.names import GROUP
from roundhouse_operator.core.structure import list_keys

_POD_FIELDS: Final = {
    "serviceAccountName": "workload.serviceAccountName",
    "serviceAccount": "workload.serviceAccountName",
    "imagePullSecrets": "workload.imagePullSecrets",
    "priorityClassName": "workload.priorityClassName",
    "runtimeClassName": "workload.runtimeClassName",
    "nodeSelector": "hardware.nodeSelector",
    "tolerations": "hardware.tolerations",
    "affinity": "hardware.affinity",
    "terminationGracePeriodSeconds": "rollout.drainTimeoutSeconds of the variants",
}
_CONTAINER_FIELDS: Final = {
    "image": "workload.image",
    "imagePullPolicy": "workload.imagePullPolicy",
    "command": "workload.command",
    "args": "workload.args",
    "env": "workload.env",
    "envFrom": "workload.envFrom",
    "ports": "api.port",
    "resources": "hardware.resources and hardware.gpu",
    "startupProbe": "probes",
    "readinessProbe": "probes",
    "livenessProbe": "probes",
}
_NAMED_LISTS: Final = ("containers", "initContainers", "volumes")
_OWN_LABELS: Final = (f"{GROUP}/", "app.kubernetes.io/")


def overlay_problems(template: Manifest, container: str) -> list[str]:
    """What a pod template sets that is not its to set: where, and what to use instead."""
    problems: list[str] = []
    members = {"metadata": template.get("metadata", {}), "spec": template.get("spec", {})}
    problems += [
        f"podTemplate.{name}: a pod template has `metadata` and `spec`" for name in template.keys() - members
    ]
    for name, value in members.items():
        if not isinstance(value, dict):
            return [f"podTemplate.{name}: must be an object"]
    labels = members["metadata"].get("labels") or {}
    if not isinstance(labels, dict):
        return [*problems, "podTemplate.metadata.labels: must be an object"]
    problems += [
        f"podTemplate.metadata.labels[{label!r}]: belongs to Roundhouse"
        for label in labels
        if label.startswith(_OWN_LABELS)
    ]
    pod = members["spec"]
    problems += [f"podTemplate.spec.{name}: use {_POD_FIELDS[name]}" for name in pod if name in _POD_FIELDS]
    for name in _NAMED_LISTS:
        if not _named(pod.get(name) or []):
            return [*problems, f"podTemplate.spec.{name}: must be a list of objects with a name"]
    containers = pod.get("containers") or []
    for one in containers:
        if one["name"] == container:
            problems += [
                f"podTemplate.spec.containers[{container}].{name}: use {_CONTAINER_FIELDS[name]}"
                for name in one
                if name in _CONTAINER_FIELDS
            ]
    return sorted(problems)


def _named(items: object) -> bool:
    return isinstance(items, list) and all(
        isinstance(one, dict) and isinstance(one.get("name"), str) and one["name"] for one in items
    )


def strategic_merge(base: Any, over: Any, name: str = "") -> Any:  # noqa: ANN401
    """`over` laid on `base`; neither is changed. A null removes."""
    match base, over:
        case dict(), dict():
            merged = {key: value for key, value in base.items() if key not in over or over[key] is not None}
            for key, value in over.items():
                if value is not None:
                    merged[key] = strategic_merge(merged.get(key), value, key)
            return merged
        case list(), list() if keys := _item_keys(name, base, over):
            known = {_identity(item, keys): item for item in base}
            extra = {_identity(item, keys): item for item in over}
            return [
                strategic_merge(item, extra[key]) if key in extra else item for key, item in known.items()
            ] + [item for key, item in extra.items() if key not in known]
        case _:
            return over


def _item_keys(name: str, base: list[Any], over: list[Any]) -> tuple[str, ...]:
    keys = list_keys(name, base)
    return keys if all(isinstance(item, dict) for item in (*base, *over)) else ()


def _identity(item: Manifest, keys: tuple[str, ...]) -> tuple[Any, ...]:
    """As JSON, because a wrong template may hold anything there; the API server then says what is wrong."""
    return tuple(json.dumps(item.get(key), sort_keys=True) for key in keys)
