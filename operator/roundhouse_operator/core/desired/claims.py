"""The ResourceClaimTemplate of a variant whose GPUs are claimed, and what the pod says of it.

A template cannot be changed, so its name carries a hash of what it holds: another need is another template.
The one before stays until no pod is left that a node's failure would have to claim for again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from roundhouse_api.model import Manifest
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.kinds import CLAIM_TEMPLATE
from roundhouse_operator.core.observed import Child, Rollout
from roundhouse_operator.core.placement.devices import memory_selector

CLAIM: Final = "gpu"
"""Of the claim in the pod, and of the one request in the claim."""
_HASH_LENGTH: Final = 8


def build_claim_templates(intent: Intent) -> tuple[Manifest, ...]:
    """One, or none."""
    spec = _claim_spec(intent)
    if spec is None:
        return ()
    manifest = intent.metadata(CLAIM_TEMPLATE)
    manifest["metadata"]["name"] = _name(intent.name, spec)
    return ({**manifest, "spec": {"spec": spec}},)


def build_resource_claims(intent: Intent) -> list[Manifest]:
    """`resourceClaims` of the pod."""
    spec = _claim_spec(intent)
    return [] if spec is None else [{"name": CLAIM, "resourceClaimTemplateName": _name(intent.name, spec)}]


def without_needed(
    children: tuple[Child, ...], wanted: Iterable[Manifest], rollout: Rollout | None
) -> tuple[Child, ...]:
    """Children without the templates of older pods, so that nobody sweeps them while there are such pods."""
    if rollout is None or (rollout.current and rollout.updated == rollout.replicas):
        return children
    names = {one["metadata"]["name"] for one in wanted if one["kind"] == CLAIM_TEMPLATE.name}
    return tuple(one for one in children if one.kind != CLAIM_TEMPLATE or one.name in names)


def _claim_spec(intent: Intent) -> dict[str, Any] | None:
    need = intent.need
    claim = need.stated.allocation.dra if need.claims and need.stated.allocation else None
    if claim is None:
        return None
    selectors = [*claim.selectors, *([memory_selector(need.memory_mib)] if need.memory_mib else [])]
    exactly: dict[str, Any] = {
        "deviceClassName": claim.device_class_name,
        "allocationMode": "ExactCount",
        "count": need.count,
    }
    if selectors:
        exactly["selectors"] = [{"cel": {"expression": each}} for each in selectors]
    return {"devices": {"requests": [{"name": CLAIM, "exactly": exactly}]}}


def _name(variant: str, spec: dict[str, Any]) -> str:
    text = json.dumps(spec, sort_keys=True).encode()
    return f"{variant}-{CLAIM}-{hashlib.sha256(text).hexdigest()[:_HASH_LENGTH]}"
