"""The condition Verified: what the variant's own tests said of the newest template."""

from __future__ import annotations

from roundhouse_api.conditions import Reason
from roundhouse_api.v1alpha1 import VerificationPolicy
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.status.conditions import Finding, troubled, true, unknown
from roundhouse_operator.core.status.scene import Scene
from roundhouse_operator.core.verification.exam import Exam
from roundhouse_operator.core.verification.proof import Proof


def find_verified(scene: Scene) -> Finding:
    exam = scene.decision.exam
    if scene.spec is None or scene.spec.verification is None:
        return unknown(Reason.NOT_REQUESTED, "The variant has no tests")
    if scene.upstream:
        return unknown(Reason.UPSTREAM, "What is not run here is not tested")
    if exam is None:
        return unknown(Reason.PENDING, "Nothing is tested as long as no pod can be made")
    if exam.required and exam.elders_serve:
        return true(
            Reason.VERIFIED, "What serves has passed its tests; the newest template serves nobody yet"
        )
    return _judged(exam)


def _judged(exam: Exam) -> Finding:
    if exam.failing:
        return troubled(exam.failing)
    if exam.proof:
        return true(Reason.VERIFIED, _shown(exam.proof))
    if exam.candidate:
        return unknown(Reason.VERIFYING, "A pod of the newest template is being asked")
    return unknown(Reason.VERIFYING, "No pod of the newest template runs yet that could be asked")


def must_verify(scene: Scene) -> bool:
    verification = scene.spec.verification if scene.spec else None
    return verification is not None and verification.policy is VerificationPolicy.REQUIRED


def shortcoming(scene: Scene) -> Trouble | None:
    """What Advisory tests have to tell; under Required the pods do not get ready, which says it."""
    exam = scene.decision.exam
    return exam.failing if exam and not exam.required else None


def _shown(proof: Proof) -> str:
    words = [f"{len(proof.tests)} tests passed"]
    if proof.verified:
        words.append(f"shown: {', '.join(proof.verified)}")
    if proof.unproven:
        words.append(f"claimed and not shown: {', '.join(proof.unproven)}")
    return "; ".join(words)
