"""CPU, memory and GPUs of the engine's container, and the nodes that have such GPUs."""

from __future__ import annotations

import json
from typing import Any

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Quantity
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.placement import MEMORY_LABEL, PRODUCT_LABEL


def build_resources(intent: Intent) -> Manifest:
    needs = intent.merged.hardware.resources
    requests = dict((needs and needs.requests) or {})
    limits = dict((needs and needs.limits) or {})
    if intent.need.resource:
        # Extended resources cannot be overcommitted: the limit is the request.
        limits[intent.need.resource] = requests[intent.need.resource] = Quantity(intent.need.count)
    named = {"requests": requests, "limits": limits}
    return {name: {key: str(each[key]) for key in sorted(each)} for name, each in named.items() if each}


def build_affinity(intent: Intent) -> Manifest:
    """The author's affinity, and what the GPU asks for added to each alternative of it."""
    affinity: Manifest = json.loads(json.dumps(intent.merged.hardware.affinity or {}))
    ours = _gpu_expressions(intent)
    if not ours:
        return affinity
    required = affinity.setdefault("nodeAffinity", {}).setdefault(
        "requiredDuringSchedulingIgnoredDuringExecution", {}
    )
    # Terms are alternatives, expressions of a term hold together: so each term gets ours.
    terms = required.get("nodeSelectorTerms") or [{}]
    required["nodeSelectorTerms"] = [
        {**term, "matchExpressions": [*term.get("matchExpressions", ()), *ours]} for term in terms
    ]
    return affinity


def _gpu_expressions(intent: Intent) -> list[dict[str, Any]]:
    need = intent.need
    expressions: list[dict[str, Any]] = []
    if need.memory_mib:
        # `Gt` is strict, and a card of exactly that size fits.
        expressions.append({"key": MEMORY_LABEL, "operator": "Gt", "values": [str(need.memory_mib - 1)]})
    if need.products:
        expressions.append({"key": PRODUCT_LABEL, "operator": "In", "values": list(need.products)})
    return expressions
