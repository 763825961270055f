"""What speaks against an engine for a variant, besides what the variant's selector asks for.

An engine that is not accepted serves nobody. One whose hardware no node has would leave the variant waiting,
so it is taken only where there is no better; what already runs on it is never moved for that.
"""

from __future__ import annotations

from collections.abc import Iterable

from roundhouse_api.v1alpha1 import ModelVariantSpec
from roundhouse_operator.core import effective, placement, placing
from roundhouse_operator.core.credentials import foremost, told_by
from roundhouse_operator.core.effective import Merged
from roundhouse_operator.core.observed import Engine, Invalid, World
from roundhouse_operator.core.selection import Doubt
from roundhouse_operator.core.support import refuse_engine


def doubt(world: World, spec: ModelVariantSpec, engine: Engine, api_hosts: Iterable[str]) -> Doubt | None:
    if isinstance(engine.spec, Invalid):
        return Doubt("NotAccepted", "its own spec is not accepted", final=True)
    if trouble := foremost(told_by(engine), refuse_engine(engine.spec, api_hosts=api_hosts)):
        return Doubt("NotAccepted", f"its own spec is not accepted: {trouble.reason.value}", final=True)
    mine = (world.variant.status.get("engine") or {}).get("uid") == engine.uid
    if engine.spec.workload is None or (mine and placing.holds_nodes(world)):
        return None
    return _without_hardware(world, effective.merge(world.variant.name, spec, engine.spec), engine, mine=mine)


def _without_hardware(world: World, merged: Merged, engine: Engine, *, mine: bool) -> Doubt | None:
    need = (placing.need_now if mine else placing.need_anew)(world, merged, engine)
    if need.unplaceable:
        return Doubt(need.unplaceable.reason.value, need.unplaceable.message)
    survey = world.fleet.survey(need)
    if survey.fitting:
        return None
    return Doubt(survey.obstacle.value, f"no node has what it needs: {placement.wanted(need)}")
