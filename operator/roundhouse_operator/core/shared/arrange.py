"""One pass over a Shared or Exclusive engine: the writes that bring it a step further, and what they mean.

Lists of models and Deployments go through the same plan as a variant's children; what is to stand on the pods
themselves is found in `marks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from roundhouse_api import names
from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import EngineSpec
from roundhouse_operator.core.desired.claims import build_claim_templates
from roundhouse_operator.core.desired.models import Listed
from roundhouse_operator.core.desired.shared import (
    NOBODY,
    NOTHING_FETCHED,
    ReplicaIntent,
    build_deployment,
    build_models,
    merge_replica,
    replica_name,
)
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.observed import Engine, Invalid
from roundhouse_operator.core.outcome import Refusal
from roundhouse_operator.core.packing import Packing, pack
from roundhouse_operator.core.plan import NOTHING, Plan, plan_children
from roundhouse_operator.core.reports import EngineReport
from roundhouse_operator.core.rollout.strategy import Strategy
from roundhouse_operator.core.seat import Seat
from roundhouse_operator.core.shared.marks import PodPatch, pod_patches
from roundhouse_operator.core.shared.members import (
    Member,
    active_variant,
    listed_key,
    packed_items,
    read_members,
)
from roundhouse_operator.core.shared.moves import READY, Moves, Step
from roundhouse_operator.core.shared.replacing import (
    again_seconds,
    asked_for,
    chosen_way,
    is_recreated,
    standing_way,
    waiting,
    withheld,
    without_pod,
)
from roundhouse_operator.core.shared.replicas import Replica, read_replicas
from roundhouse_operator.core.shared.rolling import Rolling, one_after_another, with_mark
from roundhouse_operator.core.shared.room import Room, find_room, placement_of
from roundhouse_operator.core.shared.seats import Asked, Change, take_seat, unknown_yet
from roundhouse_operator.core.shared.world import EngineWorld, answers
from roundhouse_operator.core.startup import startup_of
from roundhouse_operator.core.support import refuse_engine
from roundhouse_operator.core.weights.asked import Ask


@dataclass(frozen=True, slots=True)
class Arrangement:
    plan: Plan = NOTHING
    patches: tuple[PodPatch, ...] = ()
    seats: Mapping[str, Seat] = field(default_factory=dict)
    """By variant; of those that nothing can be said about yet, there is none."""
    members: frozenset[str] = frozenset()
    """All variants of the engine."""
    replicas: int = 0
    ready_replicas: int = 0
    loaded: str | None = None
    """Of an Exclusive engine, the variant that is loaded."""
    weights: frozenset[str] = frozenset()
    """Keys of those that pods are told to read."""
    held_up: Trouble | None = None
    """Why a change of the engine goes no further."""
    asks: frozenset[Ask] = frozenset()
    """What has to be looked up for a sound answer."""
    unsettled: frozenset[str] = frozenset()
    """Pods that are on their way to what they are to hold."""
    again_seconds: int | None = None
    """When it is to be looked at again although nobody reports a change."""

    @property
    def complete(self) -> bool:
        """Whether every variant can be told about."""
        return self.seats.keys() == self.members

    def refused(self, refusal: Refusal | None) -> Arrangement:
        """With what the API server would not take, for those that wait for it."""
        if refusal is None:
            return self
        trouble = Trouble(Reason.POD_REFUSED, f"The API server refuses {refusal.child}: {refusal.message}")
        waiting = {
            name: replace(seat, trouble=trouble) if seat.ready < seat.wanted else seat
            for name, seat in self.seats.items()
        }
        return replace(self, seats=waiting)


def arrange(world: EngineWorld, *, api_hosts: Iterable[str] = ()) -> Arrangement:
    hosts = frozenset(api_hosts)
    members, replicas = read_members(world, hosts), read_replicas(world)
    active = active_variant(world, members)
    spec = world.engine.spec
    accepted = not isinstance(spec, Invalid) and refuse_engine(spec, api_hosts=hosts) is None
    if isinstance(spec, Invalid) or not accepted:
        return _tell(world, _as_it_is(members, replicas), Asked(), active)
    items = packed_items(members, replicas, active)
    room = find_room(spec, world.fleet, replicas, items)
    serving = spec.serving
    most = (
        1
        if active is not None
        else serving.shared.max_variants_per_replica
        if serving and serving.shared
        else None
    )
    packing = pack(
        items,
        (one.bin for one in replicas.values()),
        new_mib=room.new_mib,
        most=most,
        taken=world.taken,
    )
    moves = Moves(members, replicas, packing, most)
    indices = sorted({*replicas, *packing.bins})
    steps = [moves.step(index) for index in indices]
    plan, rolling, idle = _plan(world, spec, steps, room)
    asked = Asked(room, startup_of(spec.probes), _change(rolling, idle, replicas.values()))
    return replace(
        _tell(world, moves, asked, active),
        plan=plan,
        held_up=_why(rolling, asked),
        asks=asked_for(spec) if rolling.ahead else frozenset(),
        patches=tuple(pod_patches(world, moves, steps)),
        unsettled=frozenset(_unsettled(world, steps)),
        again_seconds=again_seconds(world, replicas.values()),
    )


def _change(rolling: Rolling, idle: frozenset[str], replicas: Iterable[Replica]) -> Change:
    first = rolling.ahead or next((one.name for one in replicas if is_recreated(one)), "")
    return Change(rolling.waits_for, first, rolling.held_back, idle)


def _why(rolling: Rolling, asked: Asked) -> Trouble | None:
    """None while nobody waits, or it only takes its time."""
    replica = rolling.waits_for if rolling.held_back else None
    found = asked.diagnosed(replica) if replica else None
    if replica is None or found is None:
        return None
    text = f"A change of the engine goes no further than pod {replica.name!r}"
    return Trouble(found.reason, f"{text}: {found.message}", found.detail)


def _as_it_is(members: Mapping[str, Member], replicas: Mapping[int, Replica]) -> Moves:
    """For an engine that is not accepted: nothing is moved, and what runs runs on."""
    frozen = {name: replace(one, entry=None) for name, one in members.items()}
    held = {index: one.target for index, one in replicas.items()}
    mib = {index: one.mib for index, one in replicas.items()}
    return Moves(frozen, replicas, Packing(held, mib, {}), None)


def _tell(world: EngineWorld, moves: Moves, asked: Asked, active: str | None) -> Arrangement:
    staying = {name: member for name, member in moves.members.items() if not member.leaving}
    seats = {
        name: take_seat(world, moves, member, asked, inactive=_inactive(moves, name, active))
        for name, member in staying.items()
        if not unknown_yet(world, moves, name)
    }
    loaded = (
        name for name in sorted(moves.members) if any(one.serves(name) for one in moves.replicas.values())
    )
    entries = (entry for one in moves.replicas.values() for entry in one.entries.values())
    return Arrangement(
        seats=seats,
        members=frozenset(staying),
        replicas=sum(1 for one in moves.replicas.values() if one.rollout),
        ready_replicas=sum(any(pod.ready for pod in one.pods) for one in moves.replicas.values()),
        loaded=next(loaded, None) if active is not None else None,
        weights=frozenset(filter(None, map(listed_key, entries))),
    )


def _inactive(moves: Moves, variant: str, active: str | None) -> bool:
    """Of an Exclusive engine whose active variant is not there, the one that is loaded goes on."""
    return active is not None and variant != active and not (active == "" and moves.places(variant))


def _plan(
    world: EngineWorld, spec: EngineSpec, steps: Iterable[Step], room: Room
) -> tuple[Plan, Rolling, frozenset[str]]:
    """And how far a change of the engine has come, and which Deployments have no pod meanwhile."""
    steps = tuple(steps)
    wanted = [
        manifest for step in steps if not _over(step, world) for manifest in _objects(world, spec, step, room)
    ]
    replicas = {step.replica.name: step.replica for step in steps}
    mib = {step.replica.name: step.mib for step in steps}

    def way(replica: Replica) -> Strategy:
        return chosen_way(world, spec, room.need_of(replica, mib[replica.name]))

    def rolled(without: frozenset[str]) -> tuple[Plan, Rolling]:
        plan = plan_children(
            [without_pod(one, without) for one in wanted],
            world.children,
            namespace=world.engine.namespace,
            owner_uid=world.engine.uid,
        )
        return plan, one_after_another(plan, world.children, replicas, world.reports, way)

    idle = withheld(replicas.values())
    plan, rolling = rolled(idle)
    if rolling.recreates and not idle:
        idle = waiting(replicas.values())
        plan, rolling = rolled(idle)
    first = sorted(rolling.applies, key=lambda one: one.manifest["metadata"]["name"] not in idle)
    return replace(plan, applies=tuple(first)), rolling, idle


def _over(step: Step, world: EngineWorld) -> bool:
    """Whether nothing is left in the pod or comes to it any more, and it can go."""
    if step.target or step.entries or step.replica.labelled:
        return False
    reports = (world.report(pod) for pod in step.replica.pods if answers(pod))
    return all(report is not None and not report.models for report in reports)


def _objects(world: EngineWorld, spec: EngineSpec, step: Step, room: Room) -> tuple[Manifest, ...]:
    assert spec.workload  # noqa: S101  # an engine without pods shares none
    engine, index = world.engine, step.replica.index
    need = room.need_of(step.replica, step.mib)
    intent = ReplicaIntent(
        namespace=engine.namespace,
        name=replica_name(engine.name, index),
        uid=engine.uid,
        engine_name=engine.name,
        variant=NOBODY,
        engine=spec,
        workload=spec.workload,
        merged=merge_replica(spec, step.mib if room.on_gpu else None),
        need=need,
        delivery=NOTHING_FETCHED,
        restarts=_restarts(engine, step.replica),
        strategy=standing_way(world, step.replica, need).manifest,
        replica=index,
    )
    listed = Listed(
        generation=step.generation,
        entries=step.entries.values(),
        variants=step.target,
        mib=step.mib,
        placement=placement_of(need, room.fleet),
    )
    deployment = with_mark(build_deployment(intent), replaced=step.replica.replaced)
    return build_models(intent, listed), *build_claim_templates(intent), deployment


def _restarts(engine: Engine, replica: Replica) -> tuple[tuple[str, str], ...]:
    """As the annotation says; one that was taken away again replaces nothing."""
    at = engine.restarted_at or replica.restarted_at
    return ((names.ANNOTATION_ENGINE_RESTARTED_AT, at),) if at else ()


def _unsettled(world: EngineWorld, steps: Iterable[Step]) -> Iterator[str]:
    """Pods whose next word is waited for."""
    for step in steps:
        for pod in step.replica.pods:
            if answers(pod) and not _reached(step, world.report(pod)):
                yield pod.name


def _reached(step: Step, report: EngineReport | None) -> bool:
    if report is None or report.generation < step.generation:
        return False
    wanted = {entry["name"] for entry in step.entries.values()}
    return report.models.keys() == wanted and all(one.state == READY for one in report.models.values())
