"""What the specs alone decide: whether a variant is accepted, on which engine, and which names it has.

What becomes of its pods is decided with the cluster in view, elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from roundhouse_api.conditions import Reason
from roundhouse_api.v1alpha1 import BackendType, ModelVariantSpec
from roundhouse_operator.core import effective, ids, selection
from roundhouse_operator.core.credentials import foremost, told_by
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.ids import Award
from roundhouse_operator.core.observed import Invalid, World
from roundhouse_operator.core.suitability import doubt
from roundhouse_operator.core.support import refuse_engine, refuse_variant
from roundhouse_operator.core.weights.standing import stores_in_use
from roundhouse_operator.core.weights.supply import without_engine


def judge(world: World, *, api_hosts: Iterable[str] = ()) -> Decision:
    """As far as the specs alone go: accepted or not, on which engine, merged into what."""
    variant, spec = world.variant, world.variant.spec
    decision = Decision(ids.award(ids.claim(variant), world.rivals), stores=kept(world))
    if isinstance(spec, Invalid):
        return replace(decision, refused=Trouble(spec.reason, spec.message))
    incumbent = (variant.status.get("engine") or {}).get("uid")
    choice = selection.choose(
        spec, world.engines, incumbent=incumbent, doubt=lambda one: doubt(world, spec, one, api_hosts)
    )
    conflict = _name_conflict(decision.award, variant.name, spec)
    decision = replace(
        decision,
        refused=conflict,
        choice=choice,
        weights=without_engine(spec),
    )
    if choice.engine is None:
        return decision
    engine = choice.engine.spec
    if isinstance(engine, Invalid):
        return replace(decision, engine_refused=Trouble(engine.reason, engine.message))
    if trouble := foremost(told_by(choice.engine), refuse_engine(engine, api_hosts=api_hosts)):
        return replace(decision, engine_refused=trouble)
    merged = effective.merge(variant.name, spec, engine)
    refused = decision.refused or refuse_variant(spec, engine, merged.model_name)
    return replace(decision, refused=refused, engine=engine, merged=merged)


def kept(world: World) -> frozenset[str]:
    """Weights that a variant has, whatever its spec says by now."""
    key = (world.variant.status.get("weights") or {}).get("key", "")
    return stores_in_use(world) | ({key} if key else frozenset())


def published(world: World, decision: Decision) -> Decision:
    """A variant that is refused and serves nothing keeps no name from others, but its id if that is its."""
    spec = world.variant.spec
    if decision.refused is None or isinstance(spec, Invalid) or _serves(world):
        return decision
    own = ids.served_name(world.variant.name, spec)
    won = tuple(name for name in decision.award.won if name == own)
    return replace(decision, award=replace(decision.award, won=won))


def _name_conflict(award: Award, name: str, spec: ModelVariantSpec) -> Trouble | None:
    own = ids.served_name(name, spec)
    if own not in award.lost:
        return None
    return Trouble(Reason.NAME_CONFLICT, f"The public id {own!r} belongs to {award.lost[own]}")


def _serves(world: World) -> bool:
    """Whether it has something that answers to a name: children, or an upstream that it was given."""
    backends = world.variant.status.get("backends") or ()
    return bool(world.children) or any(one.get("type") == BackendType.UPSTREAM for one in backends)
