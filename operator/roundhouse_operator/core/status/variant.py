"""The status of a ModelVariant, whole: conditions, and the facts that clients and the gateway go by.

What a pass cannot know (there is no engine, the spec cannot be read) stays as it was: pods go on serving,
and so must the routes to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from roundhouse_api.conditions import ConditionStatus, ConditionType, Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Backend, BackendType, SelectedEngine
from roundhouse_operator.core import effective, ids
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.desired.intent import pod_labels
from roundhouse_operator.core.observed import Engine, Invalid, World
from roundhouse_operator.core.outcome import Outcome
from roundhouse_operator.core.rollout.turn import keep_turn
from roundhouse_operator.core.status.available import LOST
from roundhouse_operator.core.status.conditions import Finding, write_conditions
from roundhouse_operator.core.status.findings import variant_findings

_LASTING: Final = ("servedName", "engine", "backends", "effective", "selection", "placement", "weights")
_STUCK: Final = frozenset(
    {
        Reason.IMAGE_PULL,
        Reason.SECRET_NOT_FOUND,
        Reason.CONFIG_ERROR,
        Reason.START_TIMEOUT,
        Reason.VERIFICATION_FAILED,
        Reason.TEST_INPUT_NOT_FOUND,
        Reason.TEST_UNANSWERED,
        Reason.LOAD_FAILED,
    }
)


def variant_status(world: World, decision: Decision, outcome: Outcome, *, now: str) -> Manifest:
    variant, before = world.variant, world.variant.status
    findings = variant_findings(world, decision, outcome)
    rollout = world.rollout
    foreign = outcome.refusal is not None and outcome.refusal.foreign
    facts: dict[str, Any] = {
        "observedGeneration": variant.generation,
        "conditions": write_conditions(
            findings, before.get("conditions") or (), generation=variant.generation, now=now
        ),
        "phase": _phase(findings),
        "publishedNames": [] if foreign and not rollout else list(decision.award.won),
        **count_replicas(world),
        "selector": ",".join(f"{key}={value}" for key, value in sorted(pod_labels(variant.name).items())),
        # Of pods that hold others too, an autoscaler would read the load of those.
        **({"selector": None} if world.seat and not rollout else {}),
        **{name: before[name] for name in _LASTING if name in before},
        **_served(world, decision),
        **_rolled_out(world, decision, outcome),
        "rollout": _rollout(world, decision),
        "verification": _proven(world, decision),
    }
    return {name: value for name, value in facts.items() if value not in (None, [], {})}


def count_replicas(world: World) -> Manifest:
    """Pods of its own, or copies in pods that it shares."""
    rollout, seat = world.rollout, world.seat
    if seat and not rollout:
        there, ready, updated = seat.placed, seat.ready, seat.updated
    else:
        there, ready, updated = (rollout.replicas, rollout.ready, rollout.updated) if rollout else (0, 0, 0)
    return {"replicas": there, "readyReplicas": ready or world.lodged, "updatedReplicas": updated}


def _served(world: World, decision: Decision) -> Manifest:
    """What follows from the specs alone."""
    spec = world.variant.spec
    if isinstance(spec, Invalid):
        return {}
    choice = decision.choice
    facts: Manifest = {
        "servedName": ids.served_name(world.variant.name, spec),
        "selection": choice.as_status() if choice else None,
    }
    if decision.supply:
        facts["weights"] = decision.supply.shown
    if decision.merged and not decision.stays:
        facts["effective"] = effective.as_status(decision.merged)
    return facts


def _proven(world: World, decision: Decision) -> Manifest | None:
    """The last proof there is: its revision says of which template, and a restart finds it there."""
    spec, exam = world.variant.spec, decision.exam
    if not isinstance(spec, Invalid) and spec.verification is None:
        return None
    before: Manifest | None = world.variant.status.get("verification")
    if exam is None or not exam.revision:
        return before
    told = exam.proof.as_status() if exam.proof else before or {}
    others = {name: value for name, value in told.items() if name != "passedTemplates"}
    passed = {"passedTemplates": list(exam.passed_templates)} if exam.passed_templates else {}
    return {**others, **passed} or None


def _rolled_out(world: World, decision: Decision, outcome: Outcome) -> Manifest:
    """What is true once the children are as wanted: of which engine they are, and how they are reached."""
    engine, merged = decision.choice and decision.choice.engine, decision.merged
    if (
        decision.refused
        or outcome.refusal
        or outcome.failure
        or decision.stays
        or decision.unplaced
        or not (engine and merged and decision.engine)
    ):
        return {}
    if decision.weights and not decision.weights.ready:
        return {}
    upstream = decision.engine.upstream
    backend = Backend(
        name=engine.name if upstream else world.variant.name,
        type=BackendType.UPSTREAM if upstream else BackendType.SERVICE,
        port=effective.port_of(upstream.base_url) if upstream else decision.engine.api.port,
        model_name=merged.model_name,
    )
    selected = SelectedEngine(name=engine.name, uid=engine.uid, generation=_generation(world, engine))
    return {
        "engine": selected.model_dump(by_alias=True),
        "backends": [backend.model_dump(by_alias=True, exclude_none=True, mode="json")],
        "placement": decision.placement,
    }


def _generation(world: World, engine: Engine) -> int:
    """Of the engine that the pods are of; a shared engine's pods are replaced by its own pass."""
    before, seat = world.variant.status.get("engine") or {}, world.seat
    if seat and seat.updated < seat.wanted and before.get("uid") == engine.uid:
        return int(before.get("generation", engine.generation))
    return engine.generation


def _rollout(world: World, decision: Decision) -> Manifest | None:
    """How pods are replaced; what was decided before stands where nothing was now."""
    if decision.engine and decision.engine.upstream:
        return None
    before = world.variant.status.get("rollout") or {}
    strategy = decision.strategy
    turn = decision.turn.told if decision.intent else keep_turn(world)
    told = {
        "strategy": strategy.kind.value if strategy else before.get("strategy"),
        "reason": strategy.reason if strategy else before.get("reason"),
        "drainingReplicas": sum(pod.ending for pod in world.pods),
        "turn": turn.value if turn else None,
    }
    return {name: value for name, value in told.items() if value}


def _phase(findings: Mapping[ConditionType, Finding | None]) -> str:
    """One word for people; nothing branches on it."""
    found = {kind: one for kind, one in findings.items() if one is not None}
    available = found[ConditionType.AVAILABLE]
    match available.reason:
        case _ if available.holds:
            return "Running"
        case Reason.SUSPENDED:
            return "Suspended"
        case Reason.SCALED_TO_ZERO | Reason.IDLE | Reason.NOT_ACTIVE:
            return "Idle"
        case reason if reason in LOST or reason is Reason.NO_ENDPOINTS:
            return "Unhealthy"
        case reason if reason in _STUCK or not found[ConditionType.ACCEPTED].holds:
            return "Failed"
        case _:
            return _on_the_way(found[ConditionType.WEIGHTS_READY], found[ConditionType.SCHEDULED])


def _on_the_way(weights: Finding, scheduled: Finding) -> str:
    if weights.holds:
        return "Starting" if scheduled.holds else "Pending"
    if weights.reason is Reason.DOWNLOADING:
        return "Downloading"
    return "Failed" if weights.status is ConditionStatus.FALSE else "Pending"
