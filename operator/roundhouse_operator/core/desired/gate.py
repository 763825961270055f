"""The readiness gate of a variant whose tests are required, and by what its pods are told apart.

A template without such tests passes through as it is, byte by byte.
"""

from __future__ import annotations

from roundhouse_api.model import Manifest
from roundhouse_api.names import ANNOTATION_TEMPLATE, READINESS_GATE_VERIFIED
from roundhouse_api.v1alpha1 import Verification, VerificationPolicy
from roundhouse_operator.core.verification.proof import digest


def required(verification: Verification | None) -> bool:
    return verification is not None and verification.policy is VerificationPolicy.REQUIRED


def with_gate(verification: Verification | None, template: Manifest) -> Manifest:
    if not required(verification):
        return template
    metadata, spec = template["metadata"], template["spec"]
    gates = [*(spec.get("readinessGates") or ()), {"conditionType": READINESS_GATE_VERIFIED}]
    gated = {**template, "spec": {**spec, "readinessGates": gates}}
    marks = {**(metadata.get("annotations") or {}), ANNOTATION_TEMPLATE: digest(gated)}
    return {**gated, "metadata": {**metadata, "annotations": marks}}


def mark_of(template: Manifest) -> str:
    """By which a template is known: the one that its pods carry, where they carry one."""
    annotations = template["metadata"].get("annotations") or {}
    return annotations.get(ANNOTATION_TEMPLATE) or digest(template)
