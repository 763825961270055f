"""Environment of the engine's container: what the engine is told to serve, and what its author adds."""

from __future__ import annotations

import json
from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Dialect, ModelVariantSpec, Source
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.effective import Merged

RESERVED: Final = (
    "ROUNDHOUSE_CAPACITY",
    "ROUNDHOUSE_DRAIN_SECONDS",
    "ROUNDHOUSE_MODELS",
    "ROUNDHOUSE_MODELS_FILE",
    "ROUNDHOUSE_POD_UID",
    "ROUNDHOUSE_PORT",
)
"""Set by the operator alone, for images with the manners of the engine SDK."""
SET_BY: Final = {
    "ROUNDHOUSE_CAPACITY": "spec.concurrency.maxInFlightPerReplica",
    "ROUNDHOUSE_DRAIN_SECONDS": "spec.rollout.drainTimeoutSeconds of the variant",
    "ROUNDHOUSE_PORT": "spec.api.port of the Engine",
}


def build_env(intent: Intent) -> list[Manifest]:
    """The engine's variables, overridden by the variant's, and ours.

    Sorted by name, so that the order in which two authors wrote them rolls nothing.
    """
    variables: dict[str, Manifest] = {}
    for one in intent.workload.env:
        variables[one.name] = one.model_dump(by_alias=True, exclude_none=True, mode="json")
    for each in intent.variant.env:
        variables[each.name] = {"name": each.name, "value": each.value}
    if intent.merged.dialect is Dialect.ROUNDHOUSE:
        variables |= {one["name"]: one for one in _contract(intent)}
    return [variables[name] for name in sorted(variables, key=lambda name: (name in RESERVED, name))]


def _contract(intent: Intent) -> list[Manifest]:
    said = {
        **_models(intent),
        "ROUNDHOUSE_PORT": str(intent.engine.api.port),
        "ROUNDHOUSE_DRAIN_SECONDS": str(intent.drain_seconds),
    }
    if intent.merged.max_in_flight is not None:
        said["ROUNDHOUSE_CAPACITY"] = str(intent.merged.max_in_flight)
    return [
        *({"name": name, "value": value} for name, value in said.items()),
        {"name": "ROUNDHOUSE_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
    ]


def _models(intent: Intent) -> dict[str, str]:
    if intent.models_file:
        return {"ROUNDHOUSE_MODELS_FILE": intent.models_file}
    entry = model_entry(intent.name, intent.merged, intent.delivery.path, intent.variant)
    return {"ROUNDHOUSE_MODELS": json.dumps([entry], separators=(",", ":"), sort_keys=True)}


def model_entry(variant: str, merged: Merged, path: str | None, spec: ModelVariantSpec) -> Manifest:
    """What an engine is told of one model, whose weights are at `path`.

    `pooling` is there where it is set: an entry that changes is loaded anew.
    """
    entry = {
        "name": merged.model_name,
        "path": path,
        "source": _source(spec.source),
        "variant": variant,
    }
    embedding = merged.capabilities.embedding if merged.capabilities else None
    if embedding and embedding.pooling:
        entry["pooling"] = embedding.pooling.value
    return entry


def _source(source: Source) -> Manifest:
    """For an engine that fetches by itself: where from, without the Secrets' names, which it cannot read."""
    dumped = source.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")
    member = {key: value for key, value in dumped.items() if key not in ("size", "format")}
    return {
        key: {name: part for name, part in value.items() if not name.endswith("SecretRef")}
        if isinstance(value, dict)
        else value
        for key, value in member.items()
    }
