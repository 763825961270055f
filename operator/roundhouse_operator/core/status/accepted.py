"""The conditions that rest on the specs alone: Accepted and EngineSelected."""

from __future__ import annotations

from roundhouse_api.conditions import Reason
from roundhouse_operator.core.status.conditions import Finding, false, troubled, true, unknown
from roundhouse_operator.core.status.scene import Scene


def find_accepted(scene: Scene) -> Finding:
    if scene.decision.refused:
        return troubled(scene.decision.refused)
    refusal, intent = scene.outcome.refusal, scene.decision.intent
    if refusal and refusal.foreign:
        return false(Reason.NAME_CONFLICT, refusal.message)
    if refusal and refusal.about_spec:
        overlaid = intent is not None and intent.workload.pod_template is not None
        reason = Reason.INVALID_POD_TEMPLATE if overlaid else Reason.INVALID_SPEC
        return false(reason, f"The API server refuses {refusal.child}: {refusal.message}")
    return true(Reason.VALID, "The spec is accepted")


def find_engine_selected(scene: Scene) -> Finding:
    choice, refused = scene.decision.choice, scene.decision.engine_refused
    if choice is None:
        return unknown(Reason.PENDING, "Not looked for: the spec is not accepted")
    if choice.engine is None:
        return false(choice.reason, choice.message)
    if refused:
        return false(
            Reason.ENGINE_NOT_ACCEPTED,
            f"Engine {choice.engine.name!r} is not accepted: {refused.reason.value}: {refused.message}",
        )
    return true(choice.reason, choice.message)
