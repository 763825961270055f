"""What is to become of a variant: accepted or not, on which engine, placed where, with which children.

Joins the rules of the other modules in the order in which they bind. The plan is empty where the children
that are there stay as they are: a variant that cannot be rolled out any more goes on serving what it served.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from roundhouse_api import names
from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_operator.core import placing
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.desired import Intent, desired_children
from roundhouse_operator.core.desired.intent import queue_labels
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.effective import Merged
from roundhouse_operator.core.guard import guarded
from roundhouse_operator.core.judging import judge, published
from roundhouse_operator.core.kinds import DEPLOYMENT
from roundhouse_operator.core.moving import changes_service, find_leaving, keep_service
from roundhouse_operator.core.observed import Engine, Invalid, World
from roundhouse_operator.core.own import child_of
from roundhouse_operator.core.plan import NOTHING, Plan, plan_children
from roundhouse_operator.core.rollout import Turn, changed_by_author, keep_service_alone, roll
from roundhouse_operator.core.rollout.room import overdue_seconds
from roundhouse_operator.core.rollout.turn import keep_turn
from roundhouse_operator.core.scaling import conflict, is_demand, read_policy
from roundhouse_operator.core.verification.exam import examine
from roundhouse_operator.core.weights.delivery import Way, deliver
from roundhouse_operator.core.weights.fetch import supply_by_job
from roundhouse_operator.core.weights.loader import UNTOLD, LoaderImage
from roundhouse_operator.core.weights.mounting import PATIENCE_SECONDS, look_at_mounts
from roundhouse_operator.core.weights.standing import Standing, keep_loader, standing, stores_in_use
from roundhouse_operator.core.weights.supply import supply_with_pod

SETTLED_SECONDS: Final = 2
"""By then gateways know where a Service leads now."""


def decide(world: World, *, api_hosts: Iterable[str] = (), loader: LoaderImage = UNTOLD) -> Decision:
    return published(world, _decide(world, api_hosts, loader))


def _decide(world: World, api_hosts: Iterable[str], loader: LoaderImage) -> Decision:
    variant, spec, pods = world.variant, world.variant.spec, standing(world)
    decision = judge(world, api_hosts=api_hosts)
    choice, engine, merged = decision.choice, decision.engine, decision.merged
    if (
        isinstance(spec, Invalid)
        or choice is None
        or choice.engine is None
        or engine is None
        or merged is None
    ):
        return replace(decision, plan=keep_service_alone(world))
    if engine.workload is None:
        return replace(decision, plan=NOTHING if decision.refused else _without_children(world))
    delivery = deliver(
        variant.namespace, spec, engine.cache, world.fleet, mounts_image=_mounts_image(world, pods)
    )
    intent = Intent(
        namespace=variant.namespace,
        name=variant.name,
        uid=variant.uid,
        engine_name=choice.engine.name,
        variant=spec,
        engine=engine,
        workload=engine.workload,
        merged=merged,
        need=placing.need_now(world, merged, choice.engine),
        queue_labels=queue_labels(variant.labels),
        restarts=_restarts(world, choice.engine),
        delivery=delivery,
        loader=loader,
    )
    decision = replace(_supply(world, decision, intent), edited=changed_by_author(world, intent))
    return _scale(world, _roll_out(world, decision, intent, choice.engine, pods), merged)


def _supply(world: World, decision: Decision, intent: Intent) -> Decision:
    by_job = intent.delivery.way is Way.CACHE
    supply = supply_by_job(world, intent) if by_job else supply_with_pod(world, intent)
    if decision.refused:
        supply = replace(supply, plan=NOTHING)
    stores = stores_in_use(world) | frozenset(filter(None, (intent.delivery.store,)))
    return replace(decision, intent=intent, supply=supply, weights=supply.weights, stores=stores)


def _mounts_image(world: World, pods: Standing) -> bool | None:
    """What stands while pods run, whatever nodes come or go."""
    return pods.mounts_image if world.rollout and world.rollout.replicas else None


def _scale(world: World, decision: Decision, merged: Merged) -> Decision:
    """Where `replicas` is the operator's to write. Of what is suspended or refused it is left as it is."""
    spec, scaling = world.variant.spec, merged.scaling
    if isinstance(spec, Invalid) or scaling is None or not is_demand(scaling):
        return decision
    if rival := conflict(world.variant.writer, world.autoscaler):
        return replace(decision, rival=rival)
    if spec.suspend or decision.refused:
        return decision
    return replace(decision, scaling=read_policy(scaling, merged.max_in_flight))


def _roll_out(world: World, decision: Decision, intent: Intent, chosen: Engine, pods: Standing) -> Decision:
    decision = _placed(world, decision, intent, chosen)
    decision = replace(decision, leaving=find_leaving(world, chosen, shares=intent.shares))
    if not _may_change(world, decision) or decision.unplaced:
        kept = NOTHING if intent.shares or decision.leaving else keep_service_alone(world)
        return replace(decision, turn=Turn(keep_turn(world)), plan=kept)
    if intent.shares:
        return decision if decision.leaving else _to_shared_pods(world, decision, intent)
    rolled = guarded(intent, lambda: _rolled(world, decision, intent, chosen, pods))
    if isinstance(rolled, Trouble):
        return replace(decision, refused=rolled, turn=Turn(keep_turn(world)))
    return rolled


def _rolled(world: World, decision: Decision, intent: Intent, chosen: Engine, pods: Standing) -> Decision:
    """First which template there is to be, then what is to be proven of that one: pods of no other come."""
    replaced = _engine_replaced(world, intent, chosen)
    frozen = replaced is not None or (decision.weights is not None and not decision.weights.ready)
    made = keep_loader(world, intent, pods)
    rolling = roll(world, made, frozen=frozen)
    if placing.replaces_pods(rolling.plan, world.children):
        # The pods go for another cause, so where their successors run is decided afresh.
        anew = placing.need_anew(world, intent.merged, chosen)
        if anew != intent.need and anew.unplaceable is None:
            made = intent = replace(intent, need=anew)
            decision = _placed(world, decision, intent, chosen)
            rolling = roll(world, made, frozen=frozen)
    exam = examine(world, made, kept=rolling.kept)
    if exam and exam.wants_pod and not rolling.kept:
        made, intent = replace(made, least_replicas=1), replace(intent, least_replicas=1)
        rolling = roll(world, made, frozen=frozen)
    return replace(
        decision,
        intent=replace(intent, strategy=rolling.strategy.manifest),
        exam=exam,
        again_seconds=PATIENCE_SECONDS
        if look_at_mounts(world, intent.delivery).soon
        else overdue_seconds(world),
        held=replaced if rolling.kept and not rolling.turn.waits else None,
        plan=keep_service(rolling.plan) if decision.leaving else rolling.plan,
        strategy=rolling.strategy,
        turn=rolling.turn,
    )


def _restarts(world: World, engine: Engine) -> tuple[tuple[str, str], ...]:
    """As the annotations say; one that was taken away again replaces nothing."""
    deployment = child_of(world, DEPLOYMENT)
    template = deployment.live["spec"]["template"]["metadata"] if deployment else {}
    before = template.get("annotations") or {}
    asked = (
        (names.ANNOTATION_RESTARTED_AT, world.variant.restarted_at),
        (names.ANNOTATION_ENGINE_RESTARTED_AT, engine.restarted_at),
    )
    return tuple((name, value) for name, at in asked if (value := at or before.get(name, "")))


def _placed(world: World, decision: Decision, intent: Intent, chosen: Engine) -> Decision:
    need = intent.need
    survey = world.fleet.survey(need)
    # Counts of nodes are looked at again when something is asked anew, not whenever a node flaps.
    settled = _same_specs(world, chosen) and _holds(world, ConditionType.SCHEDULED)
    shown = placing.placement_status(world, intent, chosen, survey, settled=settled)
    against = need.unplaceable
    return replace(
        decision,
        intent=intent,
        survey=survey,
        placement=shown,
        unplaced=Trouble(against.reason, against.message) if against else None,
    )


def _may_change(world: World, decision: Decision) -> bool:
    """A variant that lost its name starts nothing and goes on with what it has.

    Any other that is refused keeps its children as they are.
    """
    if decision.refused is None:
        return True
    return decision.refused.reason is Reason.NAME_CONFLICT and bool(world.children)


def _without_children(world: World) -> Plan:
    return plan_children((), world.children, namespace=world.variant.namespace, owner_uid=world.variant.uid)


def _to_shared_pods(world: World, decision: Decision, intent: Intent) -> Decision:
    """The pods are the engine's, and so is what becomes of them.

    Pods of its own that served until now go when requests no longer come to them.
    """
    children = desired_children(intent)
    plan = plan_children(
        children, world.children, namespace=world.variant.namespace, owner_uid=world.variant.uid
    )
    if plan.deletes and changes_service(plan):
        return replace(decision, plan=replace(plan, deletes=()), again_seconds=SETTLED_SECONDS)
    return replace(decision, plan=plan)


def _same_specs(world: World, engine: Engine) -> bool:
    """Whether the status was written for these very specs."""
    status = world.variant.status
    before = status.get("engine") or {}
    return (
        status.get("observedGeneration") == world.variant.generation
        and before.get("uid") == engine.uid
        and before.get("generation") == engine.generation
    )


def _engine_replaced(world: World, intent: Intent, engine: Engine) -> Trouble | None:
    """Another engine of the same name is another engine: it rolls out when the variant is changed.

    Changed since its children were made, that is: a status tells what was looked at, not what was done.
    """
    before = world.variant.status.get("engine") or {}
    if before.get("name") != engine.name or before.get("uid") == engine.uid:
        return None
    if changed_by_author(world, intent):
        return None
    return Trouble(
        Reason.ENGINE_CHANGED,
        f"Engine {engine.name!r} was replaced by another of that name, which would change the pods: they go "
        "on serving as they are until this variant is edited or restarted",
    )


def _holds(world: World, kind: ConditionType) -> bool:
    return (world.variant.condition(kind) or {}).get("status") == "True"
