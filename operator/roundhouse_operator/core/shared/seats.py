"""What a variant's status is to tell of the pods that it shares, from what is there and what is decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from roundhouse_api.conditions import Reason
from roundhouse_operator.core.diagnose import Trouble, diagnose
from roundhouse_operator.core.placing import explained
from roundhouse_operator.core.seat import Seat
from roundhouse_operator.core.shared.members import Member
from roundhouse_operator.core.shared.moves import FAILED, Moves
from roundhouse_operator.core.shared.replacing import awaited
from roundhouse_operator.core.shared.replicas import Replica
from roundhouse_operator.core.shared.room import Room
from roundhouse_operator.core.shared.world import EngineWorld, answers
from roundhouse_operator.core.startup import Startup


@dataclass(frozen=True, slots=True)
class Change:
    """How far a change of the engine has come among its pods, by the names of their Deployments."""

    waits_for: Replica | None = None
    """The one that was changed last, while it is not well yet."""
    ahead: str = ""
    """The one that is being changed."""
    held_back: frozenset[str] = frozenset()
    """Those that are as they were until it is well."""
    withheld: frozenset[str] = frozenset()
    """Those that found no room, and have no pod until it has its GPU again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a diagnosis needs to know of the pods. No room: the engine is not accepted."""

    room: Room | None = None
    startup: Startup = field(default_factory=Startup)
    change: Change = field(default_factory=Change)

    @property
    def largest_mib(self) -> int | None:
        """Memory of the largest GPU that a pod could get."""
        return self.room.new_mib if self.room else None

    def diagnosed(self, replica: Replica) -> Trouble | None:
        resource = self.room.need.resource if self.room else None
        found = diagnose(replica.rollout, replica.pods, resource=resource, startup=self.startup)
        return self._explained(found, replica) if found else self._withheld(replica)

    def behind(self, replica: Replica) -> Trouble | None:
        """Why a change of the engine has not come to it."""
        change = self.change
        if replica.name not in change.held_back:
            return None
        text = f"Pod {replica.name!r} is as before, and is changed once pod {change.ahead!r} is well"
        found = self.diagnosed(change.waits_for) if change.waits_for else None
        if found is None:
            return Trouble(Reason.WAITING_FOR_TURN, text)
        return Trouble(Reason.ROLLOUT_PAUSED, f"{text}: {found.reason.value}: {found.message}", found.detail)

    def awaited(self, world: EngineWorld, replica: Replica) -> tuple[str, ...]:
        return awaited(world, replica, self.room.need_of(replica, replica.mib)) if self.room else ()

    def _withheld(self, replica: Replica) -> Trouble | None:
        """Without a pod the scheduler says nothing, though room is what it lacks."""
        if replica.name not in self.change.withheld:
            return None
        text = f"Pod {replica.name!r} found no room"
        if self.change.ahead:
            text += f", and is made again once pod {self.change.ahead!r}, which is replaced, has its GPU"
        return self._explained(Trouble(Reason.INSUFFICIENT_GPU, text), replica)

    def _explained(self, found: Trouble, replica: Replica) -> Trouble:
        if self.room is None:
            return found
        need = self.room.need_of(replica, replica.mib)
        return explained(found, need, self.room.fleet.survey(need))


def take_seat(world: EngineWorld, moves: Moves, member: Member, asked: Asked, *, inactive: bool) -> Seat:
    places, name = moves.places(member.name), member.name
    serving = [one for one in moves.replicas.values() if one.serves(name)]
    wanted = 0 if inactive else member.wanted
    behind = [why for one in places if (why := asked.behind(one))]
    return Seat(
        engine_uid=world.engine.uid,
        wanted=wanted,
        placed=sum(name in held for held in moves.packing.bins.values()),
        ready=min(len(serving), wanted) if wanted else 0,
        updated=sum(one.serves(name) and _updated(one) and not asked.behind(one) for one in places),
        scheduled=any(pod.scheduled for one in (*places, *serving) for pod in one.pods),
        moving=any(name in one.entries and one not in places for one in moves.replicas.values()),
        trouble=next(_troubles(world, moves, member, asked), None) if wanted else None,
        behind=behind[0] if behind else None,
        awaited=tuple(dict.fromkeys(name for one in places for name in asked.awaited(world, one))),
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
        if found := asked.diagnosed(replica):
            yield found


def _load_failures(world: EngineWorld, replica: Replica, variant: str) -> Iterator[Trouble]:
    entry = replica.entries.get(variant)
    for pod in replica.pods:
        report = world.report(pod)
        model = report.models.get(entry["name"]) if report and entry else None
        if model and model.state == FAILED:
            # Its wording is the engine's own, and may differ with each attempt.
            yield Trouble(Reason.LOAD_FAILED, "The engine cannot load the model and tries again", model.error)
