"""Who answers in place of a model that was asked for by name: those that its variant's `fallbacks` name.

They follow in the order that the variant gives, each with its own fallbacks after it, none twice and few in
all. One is asked only on a trouble that its rule names, only while nothing of the request has been used up
and nothing of an answer been sent, and only if it runs, can do what is asked, and may be used by whoever
asks. `X-Roundhouse-Model` tells which one did. For `auto` those that fit as well stand in for each other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from roundhouse_api.enums import FallbackTrigger
from roundhouse_api.selection import Needs, UnknownModelError, mismatch
from roundhouse_gateway.errors import (
    EngineAnsweredError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnreachableError,
    GatewayError,
    NotRunningError,
)
from roundhouse_gateway.hold_errors import BusyTooLongError, HeldTooLongError, HoldFullError
from roundhouse_gateway.snapshot import Entry, Snapshot

MOST: Final = 8
"""So many in all are asked in the place of one."""
ALWAYS: Final = frozenset(FallbackTrigger)
OF_AUTO: Final = frozenset({FallbackTrigger.UNAVAILABLE, FallbackTrigger.RATE_LIMITED})
"""What sends `auto` on to the next: of a request that fails in itself one failure is enough."""
_BY_KIND: Final = (
    (NotRunningError, FallbackTrigger.UNAVAILABLE),
    (HeldTooLongError, FallbackTrigger.UNAVAILABLE),
    (EngineUnreachableError, FallbackTrigger.UNAVAILABLE),
    (HoldFullError, FallbackTrigger.RATE_LIMITED),
    (BusyTooLongError, FallbackTrigger.RATE_LIMITED),
    (EngineTimeoutError, FallbackTrigger.TIMEOUT),
    (EngineFailedError, FallbackTrigger.ERROR),
)
_BY_STATUS: Final = {
    429: FallbackTrigger.RATE_LIMITED,
    503: FallbackTrigger.UNAVAILABLE,
    504: FallbackTrigger.TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class StandIn:
    """A model that may answer instead, on troubles of these kinds."""

    entry: Entry
    when: frozenset[FallbackTrigger]


def trigger_of(error: GatewayError) -> FallbackTrigger | None:
    """None where another model would be no help: the request itself is wrong, or its key."""
    if isinstance(error, EngineAnsweredError):
        other = FallbackTrigger.ERROR if error.status >= 500 else None
        return _BY_STATUS.get(error.status, other)
    return next((trigger for kind, trigger in _BY_KIND if isinstance(error, kind)), None)


def chain(snapshot: Snapshot, entry: Entry) -> Iterator[StandIn]:
    """All that an entry's fallbacks lead to, running or not; itself not among them."""
    seen = {entry.model.id}
    ahead = list(reversed(_named_by(snapshot, entry)))
    while ahead and len(seen) <= MOST:
        found = ahead.pop()
        if found.entry.model.id not in seen:
            seen.add(found.entry.model.id)
            yield found
            ahead += reversed(_named_by(snapshot, found.entry))


def stand_ins(
    snapshot: Snapshot, entry: Entry, needs: Needs, allows: Callable[[str], bool]
) -> Sequence[StandIn]:
    """Those that could answer the request now."""
    if not entry.record.fallbacks:
        return ()
    return tuple(
        each
        for each in chain(snapshot, entry)
        if each.entry.model.running
        and mismatch(each.entry.model, needs) is None
        and allows(each.entry.model.id)
    )


def permitted(snapshot: Snapshot, name: str, stand_in: Entry, trigger: FallbackTrigger) -> bool:
    """Whether it may answer in place of the model of that name after such a trouble."""
    try:
        asked = snapshot.resolve(name)
    except UnknownModelError:
        return False
    found = (each for each in chain(snapshot, asked) if each.entry.model.id == stand_in.model.id)
    return any(trigger in each.when for each in found)


def _named_by(snapshot: Snapshot, entry: Entry) -> list[StandIn]:
    found = []
    for rule in entry.record.fallbacks:
        try:
            found.append(StandIn(snapshot.resolve(rule.model), frozenset(rule.when) or ALWAYS))
        except UnknownModelError:
            continue  # the operator says so in the variant's status
    return found
