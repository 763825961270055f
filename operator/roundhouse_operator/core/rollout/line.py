"""The line of an engine's variants: who waits for a change of the engine, who is being changed, who fails.

All of it is read from the variants' own statuses, so a restart of the operator loses nothing. A change
costs as much as it concerns: one neighbour, or, when the line stops or goes on, those who wait in it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.v1alpha1 import RolloutTurn
from roundhouse_operator.core.kinds import Key
from roundhouse_operator.core.observed import Line, Variant

FAILURES: Final = frozenset(
    {
        Reason.IMAGE_PULL,
        Reason.CRASH_LOOP,
        Reason.OOM_KILLED,
        Reason.START_TIMEOUT,
        Reason.CONFIG_ERROR,
        Reason.SECRET_NOT_FOUND,
        Reason.POD_REFUSED,
        Reason.INVALID_POD_TEMPLATE,
        Reason.INVALID_SPEC,
        Reason.NO_MATCHING_NODE,
        Reason.INSUFFICIENT_VRAM,
        Reason.NO_GPU,
        Reason.VERIFICATION_FAILED,
        Reason.TEST_UNANSWERED,
    }
)
"""What stops a line. That a GPU is taken is not among it: the next one in line may find a free one."""


@dataclass(frozen=True, slots=True)
class Place:
    """Of one variant. `serves` is for the order: who answers nobody is mended first."""

    turn: RolloutTurn | None = None
    failure: Reason | None = None
    serves: bool = False


NOWHERE: Final = Place()
_Waiting = tuple[bool, str, Key]


def place_of(variant: Variant) -> Place:
    told = (variant.status.get("rollout") or {}).get("turn")
    if told not in set(RolloutTurn):
        return NOWHERE
    up_to_date = variant.condition(ConditionType.UP_TO_DATE) or {}
    available = variant.condition(ConditionType.AVAILABLE) or {}
    failing = told == RolloutTurn.TAKEN and up_to_date.get("status") == "False"
    reason = up_to_date.get("reason")
    return Place(
        turn=RolloutTurn(told),
        failure=Reason(reason) if failing and reason in FAILURES else None,
        serves=available.get("status") == "True",
    )


@dataclass(frozen=True, slots=True)
class Stand:
    """How far a change of an engine has come, for its status."""

    behind: int = 0
    """Variants that are not of its newest generation."""
    waiting: int = 0
    in_flight: tuple[str, ...] = ()
    failing: tuple[tuple[str, Reason], ...] = ()


class EngineLine:
    """Of one engine. Ordered by name, but for those that answer nobody, who come first."""

    def __init__(self) -> None:
        self._places: dict[Key, Place] = {}
        self._waiting: list[_Waiting] = []
        self._failing: dict[Key, Reason] = {}

    @property
    def empty(self) -> bool:
        return not self._places

    def put(self, key: Key, place: Place) -> tuple[set[Key], set[Key]]:
        """Returns whose turn it may be now, and who is to look a little later."""
        old = self._places.pop(key, NOWHERE)
        if place.turn:
            self._places[key] = place
        if old == place:
            return set(), set()
        stopped = self._first_failing()
        self._leave(key, old)
        self._enter(key, place)
        soon = {one for _, _, one in self._waiting} if self._first_failing() != stopped else set()
        if not self._waiting:
            return set(), soon
        first = self._waiting[0][2]
        if place.turn is RolloutTurn.WAITING and old.turn is not RolloutTurn.WAITING:
            return set(), {*soon, first}  # others of the same change are about to line up
        return {first}, soon

    def seen_by(self, key: Key) -> Line:
        in_flight = len(self._places) - len(self._waiting)
        mine = self._places.get(key, NOWHERE)
        failing = self._first_failing(but=key)
        return Line(
            in_flight=in_flight - (mine.turn is RolloutTurn.TAKEN),
            first=bool(self._waiting) and self._waiting[0][2] == key,
            failing=failing.name if failing else "",
        )

    def stand(self) -> Stand:
        taken = (key.name for key, place in self._places.items() if place.turn is RolloutTurn.TAKEN)
        return Stand(
            waiting=len(self._waiting),
            in_flight=tuple(sorted(taken)),
            failing=tuple(sorted((key.name, reason) for key, reason in self._failing.items())),
        )

    def _first_failing(self, but: Key | None = None) -> Key | None:
        return min((key for key in self._failing if key != but), key=lambda key: key.name, default=None)

    def _enter(self, key: Key, place: Place) -> None:
        if place.turn is RolloutTurn.WAITING:
            insort(self._waiting, (place.serves, key.name, key), key=_order)
        if place.failure:
            self._failing[key] = place.failure

    def _leave(self, key: Key, place: Place) -> None:
        if place.turn is RolloutTurn.WAITING:
            del self._waiting[bisect_left(self._waiting, (place.serves, key.name), key=_order)]
        self._failing.pop(key, None)


def _order(one: _Waiting) -> tuple[bool, str]:
    return one[:2]
