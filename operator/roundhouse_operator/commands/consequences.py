"""What follows for variants: children, pods, nodes and conditions, by the core that the operator uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roundhouse_api.conditions import ConditionType
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import RolloutTurn
from roundhouse_operator.commands.picture import FORBIDDEN, Picture
from roundhouse_operator.core import placement
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.kinds import ENGINE, VARIANT, Key, Kind
from roundhouse_operator.core.observed import World
from roundhouse_operator.core.outcome import DONE, Outcome, Refusal
from roundhouse_operator.core.plan import Apply
from roundhouse_operator.core.preview import ChildChange, at_its_turn, child_changes, node_verdicts
from roundhouse_operator.core.status.variant import variant_status
from roundhouse_operator.errors import ConflictError, RefusedError
from roundhouse_operator.refusals import Refusals

_NO_TIME = "1970-01-01T00:00:00Z"
"""Shown nowhere: a preview has no clock."""


async def consequences(
    picture: Picture, before: Mapping[Key, World | None], named: tuple[Kind, str] | None, *, asked: bool
) -> list[Manifest]:
    """Of every variant that would be changed; with `named`, of that resource's whether they would or not."""
    told = []
    for key in picture.keys(VARIANT):
        world = picture.cache.world(key)
        if world is None or not _concerns(world, named):
            continue
        old = before.get(key)
        if asked and old is not None and _same(old, world):
            continue
        found = await _consequence(picture, old, world)
        if asked or named or found["children"] or found["conditions"]:
            told.append(found)
    return sorted(told, key=lambda one: (one["order"], one["name"]))


def _concerns(world: World, named: tuple[Kind, str] | None) -> bool:
    if named is None:
        return True
    kind, name = named
    return any(one.name == name for one in world.engines) if kind == ENGINE else world.variant.name == name


def _same(old: World, new: World) -> bool:
    """Whether the file changes nothing that the variant looks at."""
    return (old.variant, old.engines, old.rivals, old.detours) == (
        new.variant,
        new.engines,
        new.rivals,
        new.detours,
    )


async def _consequence(picture: Picture, old: World | None, world: World) -> Manifest:
    decision = decide(world)
    # A change of an engine comes to each variant in its turn: what it brings is shown as of then.
    waits = decision.turn.told is RolloutTurn.WAITING
    later = decide(at_its_turn(world)) if waits else decision
    changes = child_changes(world, later.plan)
    refusal, refusals = await _tried(picture, later)
    seen = await Refusals(picture.cluster).look(world)
    status = variant_status(
        seen, decision, Outcome(later.plan.conflicts, refusal) if refusal else DONE, now=_NO_TIME
    )
    need = later.intent.need if later.intent else None
    return {
        "name": world.variant.name,
        "new": old is None,
        "order": 1 if waits else 0,
        "refused": decision.refused is not None or decision.engine_refused is not None or refusal is not None,
        "children": [
            {
                "verb": one.verb,
                "child": one.child,
                "refused": refusals.get(one.child, ""),
                "fields": [
                    {"path": each.path, "before": each.before, "after": each.after} for each in one.fields
                ],
            }
            for one in changes
        ],
        "pods": _pods(world, later, changes, waits=waits),
        "placement": placement.explain(need, later.survey) if need and later.survey else "",
        "nodes": [
            {"name": one.name, "verdict": one.verdict, "devices": one.devices}
            for one in (node_verdicts(need, world.fleet) if need else ())
        ],
        "conditions": _conditions(world.variant.status, status),
    }


def _pods(world: World, decision: Decision, changes: tuple[ChildChange, ...], *, waits: bool) -> str:
    intent, strategy = decision.intent, decision.strategy
    wanted, running = intent.replicas if intent else 0, len([one for one in world.pods if not one.ending])
    if decision.held:
        return f"stay as they are: {decision.held.message}"
    if not any(one.replaces_pods for one in changes):
        created = any(one.verb == "create" and one.child.startswith("Deployment") for one in changes)
        return f"{wanted} are started" if created else ""
    how = f"{strategy.kind.value}, {strategy.reason}" if strategy else "one after the other"
    turn = "; it waits for its turn: variants of the engine are changed one after another" if waits else ""
    return f"{running} are replaced by {wanted} ({how}){turn}"


async def _tried(picture: Picture, decision: Decision) -> tuple[Refusal | None, dict[str, str]]:
    """What the API server would say to the children: the first refusal, and each by its child."""
    first, told = None, {}
    for apply in decision.plan.applies:
        answer = await _try(picture, apply)
        if answer is not None:
            child = f"{apply.kind} {apply.manifest['metadata']['name']}"
            told[child] = answer.message
            first = first or Refusal(child, answer.status, answer.message)
    return first, told


async def _try(picture: Picture, apply: Apply) -> RefusedError | None:
    try:
        await picture.cluster.try_apply(apply.kind, apply.manifest, force=True)
    except ConflictError:
        return None  # what others hold is told by the plan
    except RefusedError as error:
        if error.status == FORBIDDEN:
            picture.lacking.add(f"patch {apply.kind.plural} (to try children on the API server)")
            return None
        return error
    return None


def _conditions(before: Manifest, after: Manifest) -> list[Manifest]:
    """Those that would be different, in their order."""
    old, new = _by_type(before), _by_type(after)
    changed: list[dict[str, Any]] = []
    for kind in ConditionType:
        was, now = old.get(kind.value), new.get(kind.value)
        if (was and (was["status"], was["reason"])) != (now and (now["status"], now["reason"])):
            changed.append(
                {
                    "type": kind.value,
                    "before": f"{was['status']}/{was['reason']}" if was else "",
                    "after": f"{now['status']}/{now['reason']}" if now else "",
                    "message": now["message"] if now else "",
                }
            )
    return changed


def _by_type(status: Manifest) -> dict[str, Manifest]:
    return {one["type"]: one for one in status.get("conditions") or ()}
