"""What a variant's status is to tell of the pods that it shares, from what is there and what is decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from roundhouse_api.conditions import Reason
from roundhouse_operator.core.diagnose import Trouble, diagnose
from roundhouse_operator.core.seat import Seat
from roundhouse_operator.core.shared.members import Member
from roundhouse_operator.core.shared.moves import FAILED, Moves
from roundhouse_operator.core.shared.replicas import Replica
from roundhouse_operator.core.shared.world import EngineWorld, answers


@dataclass(frozen=True, slots=True)
class Asked:
    """What a diagnosis needs to know of the pods."""

    resource: str | None
    startup_seconds: int
    largest_mib: int | None
    """Memory of the largest GPU that a pod could get."""


def take_seat(world: EngineWorld, moves: Moves, member: Member, asked: Asked, *, inactive: bool) -> Seat:
    places, name = moves.places(member.name), member.name
    serving = [one for one in moves.replicas.values() if one.serves(name)]
    wanted = 0 if inactive else member.wanted
    return Seat(
        engine_uid=world.engine.uid,
        wanted=wanted,
        placed=sum(name in held for held in moves.packing.bins.values()),
        ready=min(len(serving), wanted) if wanted else 0,
        updated=sum(one.serves(name) and _updated(one) for one in places),
        scheduled=any(pod.scheduled for one in (*places, *serving) for pod in one.pods),
        moving=any(name in one.entries and one not in places for one in moves.replicas.values()),
        trouble=next(_troubles(world, moves, member, asked), None) if wanted else None,
        inactive=inactive,
    )


def unknown_yet(world: EngineWorld, moves: Moves, variant: str) -> bool:
    """Whether a pod that it is to be in was not asked yet: what it says is no news, only late."""
    return any(
        answers(pod) and pod.name not in world.asked and not (pod.share and variant in pod.share.serves)
        for one in moves.places(variant)
        for pod in one.pods
    )


def _updated(replica: Replica) -> bool:
    rollout = replica.rollout
    return rollout is not None and rollout.current and rollout.updated >= rollout.replicas > 0


def _troubles(world: EngineWorld, moves: Moves, member: Member, asked: Asked) -> Iterator[Trouble]:
    """What keeps copies from serving, the hardest first."""
    if member.name in moves.packing.unplaced:
        yield Trouble(
            Reason.INSUFFICIENT_VRAM,
            f"It needs {member.mib} MiB of memory, and a pod of the engine has at most {asked.largest_mib}",
        )
    waiting = [one for one in moves.places(member.name) if not one.serves(member.name)]
    for replica in waiting:
        yield from _load_failures(world, replica, member.name)
    for replica in waiting:
        found = diagnose(
            replica.rollout, replica.pods, resource=asked.resource, startup_seconds=asked.startup_seconds
        )
        if found:
            yield found


def _load_failures(world: EngineWorld, replica: Replica, variant: str) -> Iterator[Trouble]:
    entry = replica.entries.get(variant)
    for pod in replica.pods:
        report = world.report(pod)
        model = report.models.get(entry["name"]) if report and entry else None
        if model and model.state == FAILED:
            # Its wording is the engine's own, and may differ with each attempt.
            yield Trouble(Reason.LOAD_FAILED, "The engine cannot load the model and tries again", model.error)
