"""A variant that goes from one engine to another: what served it serves until the other one answers.

Which pods get its requests stands in its Service, and only there: its own, or those of an engine that it
shares. So an operator that is started anew in the midst of a move sees as much as the one before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from roundhouse_api import names
from roundhouse_api.conditions import Reason
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.kinds import SERVICE
from roundhouse_operator.core.observed import Child, Engine, World
from roundhouse_operator.core.plan import Plan


def lodges_at(children: Iterable[Child]) -> str:
    """The engine whose pods get the requests; empty where the variant's own do, or none."""
    service = next((one.live for one in children if one.kind == SERVICE), None)
    selector = service["spec"].get("selector") or {} if service else {}
    return str(selector.get(names.LABEL_ENGINE, ""))


def find_leaving(world: World, engine: Engine, *, shares: bool) -> Trouble | None:
    """Who still gets the requests, because nothing of `engine` answers yet; None where there is no move."""
    before, seat, own = lodges_at(world.children), world.seat, world.rollout
    if shares and (seat is None or seat.engine_uid != engine.uid or not seat.ready):
        if own and own.ready:
            return _waiting("Pods of its own serve", engine)
        return _waiting(f"Engine {before!r} serves", engine) if before not in ("", engine.name) else None
    if not shares and before and not (own and own.ready):
        return _waiting(f"Engine {before!r} serves", engine)
    return None


def keep_service(plan: Plan) -> Plan:
    """Requests go on to where they went."""
    return replace(
        plan,
        applies=tuple(one for one in plan.applies if one.kind != SERVICE),
        removals=tuple(one for one in plan.removals if one.kind != SERVICE),
    )


def changes_service(plan: Plan) -> bool:
    return any(one.kind == SERVICE for one in plan.applies)


def _waiting(who: str, engine: Engine) -> Trouble:
    return Trouble(Reason.ROLLING_OUT, f"{who} until pods of Engine {engine.name!r} answer")
