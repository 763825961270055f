"""What an Engine's status tells of pods that hold several variants: theirs are the engine's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.v1alpha1 import EngineSpec, ServingType
from roundhouse_operator.core.observed import Engine
from roundhouse_operator.core.outcome import Outcome
from roundhouse_operator.core.shared import Arrangement
from roundhouse_operator.core.status.conditions import Degradations, Finding, false, true


@dataclass(frozen=True, slots=True)
class SharedPods:
    """Told beside what every Engine tells."""

    replicas: int
    ready_replicas: int
    active_variant: str | None
    available: Finding
    degraded: tuple[tuple[Reason, str], ...] = ()


def told_of(engine: Engine, arrangement: Arrangement, outcome: Outcome) -> SharedPods:
    return SharedPods(
        replicas=arrangement.replicas,
        ready_replicas=arrangement.ready_replicas,
        active_variant=arrangement.loaded,
        available=_available(arrangement),
        degraded=(
            *_unknown_variant(engine, arrangement),
            *([(held.reason, held.message)] if (held := arrangement.held_up) else []),
            *_troubles(outcome),
        ),
    )


def shared_findings(shared: SharedPods, degraded: Finding | None) -> Mapping[ConditionType, Finding | None]:
    """`degraded` by what concerns every Engine."""
    causes = Degradations([(degraded.reason, degraded.message)] if degraded else [])
    for reason, message in shared.degraded:
        causes.add(reason, message)
    return {ConditionType.AVAILABLE: shared.available, ConditionType.DEGRADED: causes.finding()}


def _available(arrangement: Arrangement) -> Finding:
    wanted = [seat for seat in arrangement.seats.values() if seat.wanted]
    served = sum(seat.ready > 0 for seat in wanted)
    if served:
        return true(Reason.SERVING, f"{served} of {len(wanted)} variants are loaded and answer")
    if not wanted:
        return false(Reason.NOTHING_TO_SERVE, "No variant of the engine is to be loaded")
    return false(Reason.STARTING, f"None of {len(wanted)} variants is loaded yet")


def _unknown_variant(engine: Engine, arrangement: Arrangement) -> list[tuple[Reason, str]]:
    serving = engine.spec.serving if isinstance(engine.spec, EngineSpec) else None
    if serving is None or serving.type is not ServingType.EXCLUSIVE:
        return []
    active = serving.exclusive.active_variant_name if serving.exclusive else None
    if not active or active in arrangement.members:
        return []
    loaded = f"; {arrangement.loaded!r} stays loaded" if arrangement.loaded else ""
    words = f"spec.serving.exclusive.activeVariantName: the engine has no variant {active!r}{loaded}"
    return [(Reason.UNRESOLVED_MODEL, words)]


def _troubles(outcome: Outcome) -> list[tuple[Reason, str]]:
    troubles = [
        (Reason.FIELD_OWNED_BY_OTHER, f"{one.child}: {one.manager!r} holds {one.path}")
        for one in outcome.conflicts
    ]
    if refusal := outcome.refusal:
        words = f"The API server refuses {refusal.child}: {refusal.message}"
        troubles.append((Reason.POD_REFUSED, words))
    return troubles
