"""The conditions that are there only while True: Degraded and OwnershipConflict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_operator.core import fallbacks, ids
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.outcome import Outcome
from roundhouse_operator.core.scaling import in_vain
from roundhouse_operator.core.selection import unloadable
from roundhouse_operator.core.status.conditions import Degradations, Finding, true
from roundhouse_operator.core.status.scene import Scene
from roundhouse_operator.core.status.verified import shortcoming
from roundhouse_operator.core.support import unsupported_by_variant

UNHEARD: Final = "Not every gateway tells its load: a request may not wake it, and it never sleeps"


def find_degraded(scene: Scene, blocker: Finding | None) -> Finding | None:
    decision, causes = scene.decision, Degradations()
    if decision.rival:
        # The first, because its reason is how a successor knows that it has stopped.
        causes.add(decision.rival.reason, decision.rival.message)
    if scene.world.autoscaler and (engine := _engine_of_its_pods(scene)):
        vain = in_vain(scene.world.autoscaler, engine)
        causes.add(vain.reason, vain.message)
    if blocker and scene.frozen:
        serving = "; its pods go on serving as they are" if scene.ready else ""
        causes.add(blocker.reason, f"{blocker.message}{serving}")
    if decision.held:
        causes.add(decision.held.reason, decision.held.message)
    detours = fallbacks.troubles(scene.world.detours)
    for one in (*detours, *_of_weights(scene, blocker), *_of_spec(scene)):
        causes.add(one.reason, one.message)
    if trouble := shortcoming(scene):
        causes.add(trouble.reason, trouble.message)
    if owners := _lost_names(scene):
        causes.add(Reason.ALIAS_CONFLICT, f"Names that are not published here: {owners}")
    refusal = scene.outcome.refusal
    if refusal and scene.ready and not blocker and not refusal.raced:
        causes.add(Reason.POD_REFUSED, f"The API server refuses {refusal.child}: {refusal.message}")
    if _nobody_is_heard(scene):
        causes.add(Reason.LOAD_UNKNOWN, UNHEARD)
    if scene.trouble and scene.ready:
        causes.add(scene.trouble.reason, f"{_not_running(scene)}: {scene.trouble.message}")
        causes.detail = scene.trouble.detail
    return causes.finding()


def _not_running(scene: Scene) -> str:
    """The Deployment's count of ready pods lags behind the pods themselves."""
    if (missing := scene.wanted - scene.ready) > 0:
        return f"{missing} pods do not run"
    if len({pod.template for pod in scene.world.pods}) == 1:
        return "Not all pods run"
    return "Older pods serve, and newer ones do not run"


def _nobody_is_heard(scene: Scene) -> bool:
    """Of what our scaler follows: a pass comes to no other when somebody is heard again.

    What was told before stands until it can be said anew: an operator that begins has heard nobody yet.
    """
    if scene.decision.scaling is None:
        return False
    if scene.world.deaf is None:
        before = scene.world.variant.condition(ConditionType.DEGRADED)
        return before is not None and UNHEARD in before["message"]
    return scene.world.deaf


def _of_spec(scene: Scene) -> Iterator[Trouble]:
    """What was asked for, and is not as asked."""
    spec, merged, engine = scene.spec, scene.decision.merged, scene.decision.engine
    if spec and merged and (fields := unsupported_by_variant(spec, merged)):
        yield Trouble(Reason.NOT_YET_SUPPORTED, f"Accepted and not honoured yet: {', '.join(fields)}")
    if spec and engine and (words := unloadable(spec, engine)):
        yield Trouble(Reason.FORMAT_NOT_LOADED, words)


def _of_weights(scene: Scene, blocker: Finding | None) -> Iterator[Trouble]:
    weights, supply = scene.decision.weights, scene.decision.supply
    if weights and weights.failing and not weights.ready and scene.ready and not blocker:
        yield Trouble(weights.reason, f"The pods have the weights of before: {weights.message}")
    if supply and supply.unmarked:
        yield supply.unmarked


def _engine_of_its_pods(scene: Scene) -> str:
    """The Engine that answers for it, where pods of its own do not; empty where they do."""
    choice = scene.decision.choice
    if choice is None or choice.engine is None or not (scene.decision.shares or scene.upstream):
        return ""
    return choice.engine.name


def _lost_names(scene: Scene) -> str:
    """Names besides its public id, of which `Accepted` tells; none while it publishes nothing at all."""
    award, spec = scene.decision.award, scene.spec
    own = ids.served_name(scene.world.variant.name, spec) if spec else None
    others = sorted((name, key) for name, key in award.lost.items() if name != own and award.won)
    return ", ".join(f"{name!r} belongs to {key}" for name, key in others)


def find_ownership(outcome: Outcome) -> Finding | None:
    if not outcome.conflicts:
        return None
    held = "; ".join(f"{one.child}: {one.manager!r} holds {one.path}" for one in outcome.conflicts)
    return true(Reason.FIELD_OWNED_BY_OTHER, f"Left to others: {held}")
