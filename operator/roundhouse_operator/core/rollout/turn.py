"""Whose turn it is: a change of an Engine reaches its variants one after another.

A variant that serves first says in its status that it waits, and is changed in a later pass: so that
statuses alone tell where the line stands, whenever the operator was ended. What a variant's own author
changed waits for nobody, nor does a variant that has nothing to lose.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.v1alpha1 import RolloutTurn
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.observed import Rollout, World

ONE_AT_A_TIME: Final = 1


class Change(Enum):
    """What a pass would do to the pods."""

    NONE = auto()
    BY_HAND = auto()
    """Take back what a person changed on the Deployment."""
    OWN = auto()
    """Carry out what the variant itself asks for now."""
    INHERITED = auto()
    """Follow the engine, or a newer version of the operator."""


@dataclass(frozen=True, slots=True)
class Turn:
    """`waits` says why the pods stay as they are for now."""

    told: RolloutTurn | None = None
    waits: Trouble | None = None


NO_TURN: Final = Turn()


def take_turn(world: World, change: Change, *, engine: str, most: int, wanted: int) -> Turn:
    """`most` variants of `engine` may be changed at once, as far as this one is concerned."""
    before, rollout, line = told_turn(world), world.rollout, world.line
    if change is Change.NONE:
        return Turn(RolloutTurn.TAKEN if before and not settled(world) else None)
    if before is RolloutTurn.TAKEN:
        return Turn(before)  # a change on the way is mended by the next one
    proven = rollout is not None and (rollout.ready > 0 or rollout.completed)
    halted = before is RolloutTurn.WAITING and bool(line.failing)  # also while a person restarts its pods
    if change is not Change.INHERITED or not (proven or halted) or not wanted:
        return NO_TURN
    if before is RolloutTurn.WAITING and line.first and not line.failing and line.in_flight < most:
        # Of one that answers nobody, a failure would tell nothing about the change.
        return Turn(RolloutTurn.TAKEN if rollout and rollout.ready else None)
    return Turn(RolloutTurn.WAITING, _why(engine, line.failing))


def keep_turn(world: World) -> RolloutTurn | None:
    """Where nothing can be decided: who waits steps aside, who was changed is still looked at."""
    taken = told_turn(world) is RolloutTurn.TAKEN
    return RolloutTurn.TAKEN if taken and not settled(world) else None


def told_turn(world: World) -> RolloutTurn | None:
    told = (world.variant.status.get("rollout") or {}).get("turn")
    return RolloutTurn(told) if told in set(RolloutTurn) else None


def settled(world: World) -> bool:
    """Whether a change has proven good: all pods are of the newest template, and as many are ready as can be.

    Those for which there is no room say nothing about the change, as long as others answer.
    """
    rollout = world.rollout
    if rollout is None:
        return True
    if not rollout.current:
        return False
    if rollout.wanted == 0:
        return True
    if old_pods(rollout) or rollout.updated < rollout.wanted:
        return False
    roomless = sum(pod.unschedulable is not None and not pod.scheduled for pod in world.pods)
    return rollout.ready >= rollout.wanted or 0 < rollout.wanted - roomless <= rollout.ready


def old_pods(rollout: Rollout) -> int:
    """Pods of an older template."""
    return max(rollout.replicas - rollout.updated, 0)


def _why(engine: str, failing: str) -> Trouble:
    if failing:
        return Trouble(
            Reason.ROLLOUT_PAUSED,
            f"A change of Engine {engine!r} went wrong on variant {failing!r}; it reaches no others until "
            "that one is well",
        )
    return Trouble(
        Reason.WAITING_FOR_TURN, f"A change of Engine {engine!r} reaches its variants one after another"
    )
