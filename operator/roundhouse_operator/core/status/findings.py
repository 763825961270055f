"""The conditions of a ModelVariant, by the truth table of `Ready`.

`Ready` holds when the spec is accepted, an engine is selected, the weights are there, pods have nodes and
an endpoint answers; its reason is that of the first of these that fails. Availability never depends on a
rollout that is under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.v1alpha1 import ModelVariantSpec, VerificationPolicy
from roundhouse_operator.core import ids, placement
from roundhouse_operator.core.decide import Decision
from roundhouse_operator.core.desired.probes import startup_seconds
from roundhouse_operator.core.diagnose import Trouble, diagnose, newest
from roundhouse_operator.core.observed import Invalid, Rollout, World
from roundhouse_operator.core.outcome import Outcome
from roundhouse_operator.core.status.conditions import (
    Degradations,
    Finding,
    false,
    first_failing,
    ready,
    troubled,
    true,
    unknown,
)
from roundhouse_operator.core.support import unsupported_by_variant

LOST: Final = frozenset({Reason.CRASH_LOOP, Reason.OOM_KILLED, Reason.ENDPOINT_LOST})
"""What the gateway tells clients as `unhealthy`; it lasts until a start succeeds or a spec changes."""
CONFLICT: Final = 409
"""Somebody was quicker: the next pass sees to it, and nothing is wrong."""
_ROLLED_OUT: Final = "All pods are of the newest template"
_SCHEDULING: Final = frozenset(
    {
        Reason.POD_REFUSED,
        Reason.INSUFFICIENT_VRAM,
        Reason.NO_GPU,
        Reason.INSUFFICIENT_GPU,
        Reason.INSUFFICIENT_RESOURCES,
        Reason.NO_MATCHING_NODE,
        Reason.UNSCHEDULABLE,
    }
)


@dataclass(frozen=True, slots=True)
class _Scene:
    """A pass, with what several conditions ask about worked out once."""

    world: World
    decision: Decision
    outcome: Outcome
    spec: ModelVariantSpec | None
    upstream: bool
    wanted: int
    ready: int
    trouble: Trouble | None

    @property
    def suspended(self) -> bool:
        return self.spec is not None and self.spec.suspend

    @property
    def frozen(self) -> bool:
        """Pods run, or are being made, that nothing can be changed about for now."""
        rollout = self.world.rollout
        return rollout is not None and bool(rollout.replicas or rollout.wanted)


def variant_findings(
    world: World, decision: Decision, outcome: Outcome
) -> Mapping[ConditionType, Finding | None]:
    scene = _scene(world, decision, outcome)
    accepted = _accepted(scene)
    selected = _engine_selected(scene)
    weights = _weights_ready(scene)
    blocker = first_failing((accepted, selected, weights))
    scheduled = _scheduled(scene, blocker)
    available = _available(scene, blocker)
    verified = _verified(scene)
    gate = (verified,) if _must_verify(scene) else ()
    return {
        ConditionType.READY: ready((accepted, selected, weights, scheduled, available, *gate), available),
        ConditionType.ACCEPTED: accepted,
        ConditionType.ENGINE_SELECTED: selected,
        ConditionType.WEIGHTS_READY: weights,
        ConditionType.SCHEDULED: scheduled,
        ConditionType.AVAILABLE: available,
        ConditionType.VERIFIED: verified,
        ConditionType.UP_TO_DATE: _up_to_date(scene, blocker),
        ConditionType.DEGRADED: _degraded(scene, blocker),
        ConditionType.OWNERSHIP_CONFLICT: _ownership(outcome),
    }


def _scene(world: World, decision: Decision, outcome: Outcome) -> _Scene:
    spec = None if isinstance(world.variant.spec, Invalid) else world.variant.spec
    rollout, intent, engine = world.rollout, decision.intent, decision.engine
    return _Scene(
        world=world,
        decision=decision,
        outcome=outcome,
        spec=spec,
        upstream=engine is not None and engine.upstream is not None,
        wanted=intent.replicas if intent else rollout.wanted if rollout else 0,
        ready=rollout.ready if rollout else 0,
        trouble=_trouble(world, decision),
    )


def _trouble(world: World, decision: Decision) -> Trouble | None:
    survey, engine = decision.survey, decision.engine
    need = decision.intent.need if decision.intent else None
    found = diagnose(
        world.rollout,
        world.pods,
        resource=need.resource if need else None,
        startup_seconds=startup_seconds(engine.probes if engine else None),
    )
    if found and found.reason is Reason.NO_MATCHING_NODE and need and survey and not survey.fitting:
        # The scheduler says that no node matches; the survey knows which of our wishes none meets.
        return Trouble(survey.obstacle, f"{found.message}; {placement.explain(need, survey)}")
    return found


def _accepted(scene: _Scene) -> Finding:
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


def _engine_selected(scene: _Scene) -> Finding:
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


def _weights_ready(scene: _Scene) -> Finding:
    weights = scene.decision.weights
    if scene.upstream:
        return true(Reason.UPSTREAM, "The upstream has its own")
    if weights is None:
        return unknown(Reason.PENDING, "Not looked at: the spec is not accepted")
    return (true if weights.ready else false)(weights.reason, weights.message)


def _scheduled(scene: _Scene, blocker: Finding | None) -> Finding:
    refusal = scene.outcome.refusal
    if scene.upstream:
        return true(Reason.UPSTREAM, "There are no pods to schedule")
    if scene.suspended:
        return unknown(Reason.SUSPENDED, "`spec.suspend` is true")
    living = (pod for pod in scene.world.pods if not pod.ending and not pod.failure)
    if scene.ready or any(pod.scheduled for pod in living):
        return true(Reason.SCHEDULED, "The pods have nodes")
    if refusal and not refusal.about_spec and not refusal.foreign:
        return false(Reason.POD_REFUSED, f"The API server refuses {refusal.child}: {refusal.message}")
    if scene.trouble and scene.trouble.reason in _SCHEDULING:
        return troubled(scene.trouble)
    return _without_pods(scene, blocker)


def _without_pods(scene: _Scene, blocker: Finding | None) -> Finding:
    """What would become of pods if there were some."""
    if scene.outcome.failure and not scene.frozen:
        return _not_written(scene)
    survey, intent = scene.decision.survey, scene.decision.intent
    if scene.wanted and scene.frozen:
        return unknown(Reason.STARTING, "Pods are being made")
    if blocker:
        return unknown(blocker.reason, "No pod is wanted as long as this lasts")
    if scene.wanted or survey is None or intent is None:
        return unknown(Reason.PENDING, "Pods are about to be made")
    if survey.fitting:
        return true(Reason.FEASIBLE, "No pod is wanted, and one would have a node")
    return false(
        survey.obstacle, f"No pod is wanted, and none could run: it {placement.explain(intent.need, survey)}"
    )


def _available(scene: _Scene, blocker: Finding | None) -> Finding:
    if scene.upstream and not blocker:
        return true(Reason.UPSTREAM, "Requests go to the upstream")
    if scene.suspended:
        return false(Reason.SUSPENDED, "`spec.suspend` is true")
    if scene.ready:
        return true(Reason.SERVING, f"{scene.ready} of {scene.wanted} pods answer")
    if scene.wanted == 0 and not blocker:
        return false(Reason.SCALED_TO_ZERO, "`spec.replicas` is 0 and nothing wakes it")
    if blocker and not scene.frozen:
        return false(blocker.reason, "Nothing was started")
    return _not_answering(scene)


def _not_written(scene: _Scene) -> Finding:
    return unknown(Reason.PENDING, f"Nothing was started yet, and it is tried again: {scene.outcome.failure}")


def _not_answering(scene: _Scene) -> Finding:
    """Pods are wanted and none answers: it starts, cannot start, or has been lost."""
    before = scene.world.variant.condition(ConditionType.AVAILABLE) if _same_pods(scene) else None
    trouble = scene.trouble
    if trouble and trouble.reason in LOST:
        return troubled(trouble)
    if before and before["status"] == "True":
        cause = f": {trouble.message}" if trouble else ""
        return false(Reason.ENDPOINT_LOST, f"It was serving, and no pod answers any more{cause}")
    if before and before["reason"] in LOST:
        return _still_lost(Reason(before["reason"]), before["message"], trouble)
    if trouble:
        return troubled(trouble)
    if scene.outcome.failure and not scene.frozen:
        return _not_written(scene)
    return false(Reason.STARTING, "Pods were made and do not answer yet")


def _still_lost(reason: Reason, message: str, trouble: Trouble | None) -> Finding:
    """As it was, until what keeps the next pod from starting is known."""
    if trouble is None:
        return false(reason, message)
    return false(reason, f"No pod answers: {trouble.reason.value}: {trouble.message}", trouble.detail)


def _same_pods(scene: _Scene) -> bool:
    """Whether the last status was about the pods of the same template, all of them rolled out."""
    variant, choice = scene.world.variant, scene.decision.choice
    engine = choice.engine if choice else None
    before, up_to_date = variant.status, variant.condition(ConditionType.UP_TO_DATE)
    lost = (variant.condition(ConditionType.AVAILABLE) or {}).get("reason") in LOST
    same_engine = engine is None or (before.get("engine") or {}).get("generation") == engine.generation
    return (
        before.get("observedGeneration") == variant.generation
        and same_engine
        and (lost or (up_to_date or {}).get("status") != "False")
    )


def _verified(scene: _Scene) -> Finding:
    if scene.spec and scene.spec.verification:
        return unknown(
            Reason.NOT_YET_SUPPORTED, "`spec.verification` is not honoured yet: nothing was tested"
        )
    return unknown(Reason.NOT_REQUESTED, "The variant has no tests")


def _must_verify(scene: _Scene) -> bool:
    verification = scene.spec.verification if scene.spec else None
    return verification is not None and verification.policy is VerificationPolicy.REQUIRED


def _up_to_date(scene: _Scene, blocker: Finding | None) -> Finding:
    rollout, held = scene.world.rollout, scene.decision.held
    if scene.upstream and not blocker:
        return true(Reason.UPSTREAM, "There are no pods to roll out")
    if held:
        return troubled(held)
    if blocker:
        return false(blocker.reason, "Nothing is rolled out as long as this lasts")
    if refusal := scene.outcome.refusal:
        return false(Reason.POD_REFUSED, f"The API server refuses {refusal.child}: {refusal.message}")
    if rollout is None or not rollout.current:
        return false(Reason.ROLLING_OUT, "The Deployment is being made or changed")
    going_on = rollout.updated < scene.wanted or rollout.replicas > rollout.updated
    return _rolling_out(scene, rollout) if going_on else true(Reason.ROLLED_OUT, _ROLLED_OUT)


def _rolling_out(scene: _Scene, rollout: Rollout) -> Finding:
    """The reason is that of what keeps the new pods from starting, if anything does."""
    answering = sum(pod.ready for pod in newest(scene.world.pods)) if rollout.updated else 0
    figures = f"{answering} of {scene.wanted} pods of the newest template are ready"
    if (old := rollout.replicas - rollout.updated) > 0:
        figures += f"; {old} of an older one"
    if scene.trouble is None:
        return false(Reason.ROLLING_OUT, figures)
    return false(scene.trouble.reason, f"{figures}: {scene.trouble.message}", scene.trouble.detail)


def _degraded(scene: _Scene, blocker: Finding | None) -> Finding | None:
    decision, causes = scene.decision, Degradations()
    if blocker and scene.frozen:
        causes.add(blocker.reason, f"{blocker.message}; its pods go on serving as they are")
    if decision.held:
        causes.add(decision.held.reason, decision.held.message)
    if decision.weights and not decision.weights.ready and not scene.upstream:
        causes.add(decision.weights.reason, decision.weights.message)
    if scene.spec and decision.merged and (fields := unsupported_by_variant(scene.spec, decision.merged)):
        causes.add(Reason.NOT_YET_SUPPORTED, f"Accepted and not honoured yet: {', '.join(fields)}")
    if owners := _lost_names(scene):
        causes.add(Reason.ALIAS_CONFLICT, f"Names that are not published here: {owners}")
    refusal = scene.outcome.refusal
    if refusal and scene.ready and not blocker and refusal.status != CONFLICT:
        causes.add(Reason.POD_REFUSED, f"The API server refuses {refusal.child}: {refusal.message}")
    if scene.trouble and scene.ready:
        missing = scene.wanted - scene.ready
        what = f"{missing} pods do not run" if missing > 0 else "Older pods serve, and newer ones do not run"
        causes.add(scene.trouble.reason, f"{what}: {scene.trouble.message}")
        causes.detail = scene.trouble.detail
    return causes.finding()


def _lost_names(scene: _Scene) -> str:
    """Names besides its public id, of which `Accepted` tells; none while it publishes nothing at all."""
    award, spec = scene.decision.award, scene.spec
    own = ids.served_name(scene.world.variant.name, spec) if spec else None
    others = sorted((name, key) for name, key in award.lost.items() if name != own and award.won)
    return ", ".join(f"{name!r} belongs to {key}" for name, key in others)


def _ownership(outcome: Outcome) -> Finding | None:
    if not outcome.conflicts:
        return None
    held = "; ".join(f"{one.child}: {one.manager!r} holds {one.path}" for one in outcome.conflicts)
    return true(Reason.FIELD_OWNED_BY_OTHER, f"Left to others: {held}")
