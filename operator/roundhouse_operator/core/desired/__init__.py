"""The objects that a variant wants: a Deployment, a headless Service, a budget for disruptions, or nothing.

A variant whose GPUs are claimed wants a ResourceClaimTemplate too, and first: its pods name it. On an
engine that it shares with others it wants the Service alone, because the pods are the engine's.

Pure and deterministic: the same variant on the same engine gives the same bytes, whatever the cluster
looks like, so that only a change of a spec rolls pods.
"""

from __future__ import annotations

from roundhouse_api.model import Manifest
from roundhouse_operator.core.desired.claims import build_claim_templates
from roundhouse_operator.core.desired.deployment import build_deployment
from roundhouse_operator.core.desired.disruption import build_disruption_budget
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.desired.service import build_service
from roundhouse_operator.core.desired.shared import build_variant_service

__all__ = ["Intent", "desired_children"]


def desired_children(intent: Intent) -> tuple[Manifest, ...]:
    if intent.shares:
        return (build_variant_service(intent),)
    return (
        *build_claim_templates(intent),
        build_deployment(intent),
        build_service(intent),
        *build_disruption_budget(intent),
    )
