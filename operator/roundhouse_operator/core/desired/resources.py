"""CPU, memory and GPUs of the engine's container, and the nodes that have such GPUs."""

from __future__ import annotations

import json

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Quantity
from roundhouse_operator.core.desired.claims import CLAIM
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.placement import Need


def build_resources(intent: Intent) -> Manifest:
    needs = intent.merged.hardware.resources
    requests = dict((needs and needs.requests) or {})
    limits = dict((needs and needs.limits) or {})
    if intent.need.resource:
        # Extended resources cannot be overcommitted: the limit is the request.
        limits[intent.need.resource] = requests[intent.need.resource] = Quantity(intent.need.count)
    named = {"requests": requests, "limits": limits}
    resources: Manifest = {
        name: {key: str(each[key]) for key in sorted(each)} for name, each in named.items() if each
    }
    if intent.need.claims:
        resources["claims"] = [{"name": CLAIM}]
    return resources


def build_affinity(intent: Intent) -> Manifest:
    return join_affinity(intent.merged.hardware.affinity or {}, intent.need)


def join_affinity(author: Manifest, need: Need) -> Manifest:
    """The author's affinity, and what the GPU asks for added to each alternative of it."""
    affinity: Manifest = json.loads(json.dumps(author))
    if not need.terms:
        return affinity
    required = affinity.setdefault("nodeAffinity", {}).setdefault(
        "requiredDuringSchedulingIgnoredDuringExecution", {}
    )
    ours = [[one.manifest() for one in term] for term in need.terms]
    # Terms are alternatives, expressions of a term hold together: so each term gets each of ours. One
    # without members meets no node, and must go on doing so.
    theirs = required.get("nodeSelectorTerms")
    if not theirs:
        required["nodeSelectorTerms"] = [{"matchExpressions": each} for each in ours]
        return affinity
    required["nodeSelectorTerms"] = [
        {**term, "matchExpressions": [*term.get("matchExpressions", ()), *each]} if term else term
        for term in theirs
        for each in (ours if term else ours[:1])
    ]
    return affinity
