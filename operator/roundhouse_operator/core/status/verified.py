"""The condition Verified: what the variant's own tests said."""

from __future__ import annotations

from roundhouse_api.conditions import Reason
from roundhouse_api.v1alpha1 import VerificationPolicy
from roundhouse_operator.core.status.conditions import Finding, unknown
from roundhouse_operator.core.status.scene import Scene


def find_verified(scene: Scene) -> Finding:
    if scene.spec and scene.spec.verification:
        return unknown(
            Reason.NOT_YET_SUPPORTED, "`spec.verification` is not honoured yet: nothing was tested"
        )
    return unknown(Reason.NOT_REQUESTED, "The variant has no tests")


def must_verify(scene: Scene) -> bool:
    verification = scene.spec.verification if scene.spec else None
    return verification is not None and verification.policy is VerificationPolicy.REQUIRED
