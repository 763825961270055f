"""How a change reaches pods: whose turn it is, and whether a new pod or an old one goes first.

`turn` and `line` order the variants of an engine, `strategy` chooses the way; here both become a plan. What
there is to do while no change is to reach them is in `keeping`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from roundhouse_api.model import Manifest
from roundhouse_api.names import ANNOTATION_VARIANT_SPEC
from roundhouse_operator.core.desired import Intent, desired_children
from roundhouse_operator.core.desired.claims import without_needed
from roundhouse_operator.core.kinds import DEPLOYMENT, SERVICE
from roundhouse_operator.core.observed import Child, World
from roundhouse_operator.core.own import child_of, has_template, template_changes
from roundhouse_operator.core.plan import Plan, plan_children
from roundhouse_operator.core.rollout.keeping import keep_children, keep_service_alone
from roundhouse_operator.core.rollout.strategy import Strategy, choose_strategy
from roundhouse_operator.core.rollout.turn import ONE_AT_A_TIME, Change, Turn, keep_turn, take_turn

__all__ = ["Change", "Rolling", "Strategy", "Turn", "changed_by_author", "keep_service_alone", "roll"]


@dataclass(frozen=True, slots=True)
class Rolling:
    """What becomes of the children in this pass."""

    plan: Plan
    strategy: Strategy
    turn: Turn
    kept: bool = False
    """The pods stay as they are although others are wanted."""


def roll(world: World, intent: Intent, *, frozen: bool = False) -> Rolling:
    """`frozen`: there may be more pods or fewer, but no others."""
    live = child_of(world, DEPLOYMENT)
    rollout = intent.variant.rollout
    standing = live.live["spec"].get("strategy") if live else None

    def plan(*, changing: bool) -> tuple[Plan, Strategy]:
        chosen = choose_strategy(world, intent, standing, changing=changing)
        wanted = desired_children(replace(intent, strategy=chosen.manifest))
        return _plan(world, wanted, without_needed(world.children, wanted, world.rollout)), chosen

    found, strategy = plan(changing=False)
    change = _change(world, intent, found, live)
    if frozen and change is not Change.NONE:
        return Rolling(keep_children(world, intent), strategy, Turn(keep_turn(world)), kept=True)
    turn = take_turn(
        world,
        change,
        engine=intent.engine_name,
        most=(rollout and rollout.max_concurrent) or ONE_AT_A_TIME,
        wanted=intent.asked_replicas,
    )
    if turn.waits:
        return Rolling(keep_children(world, intent), strategy, turn, kept=True)
    if change is not Change.NONE:
        found, strategy = plan(changing=True)
    return Rolling(found, strategy, turn)


def changed_by_author(world: World, intent: Intent) -> bool:
    """Whether the variant asks for something else than what its children were made from.

    Its Service says what that was. Where somebody has deleted that, what came since the last pass is an edit.
    """
    service = child_of(world, SERVICE)
    if service is None:
        seen = world.variant.status.get("observedGeneration", world.variant.generation)
        return child_of(world, DEPLOYMENT) is not None and bool(seen != world.variant.generation)
    made = (service.live["metadata"].get("annotations") or {}).get(ANNOTATION_VARIANT_SPEC)
    return made is not None and made != intent.digest


def _change(world: World, intent: Intent, plan: Plan, live: Child | None) -> Change:
    apply = next((one for one in plan.applies if one.kind == DEPLOYMENT), None)
    if apply is None or live is None:
        return Change.NONE if apply is None else Change.OWN
    wanted = apply.manifest["spec"].get("template", {})
    if has_template(wanted, live):
        return Change.NONE
    if changed_by_author(world, intent):
        return Change.OWN
    differing = template_changes(wanted, live)
    by_hand = [any(one.by_hand for one in live.ownership.holders(path)) for path in differing]
    return Change.BY_HAND if by_hand and all(by_hand) else Change.INHERITED


def _plan(world: World, wanted: tuple[Manifest, ...], there: tuple[Child, ...] | list[Child]) -> Plan:
    return plan_children(wanted, there, namespace=world.variant.namespace, owner_uid=world.variant.uid)
