"""Which models a request may wait for, and which of them answer it now.

A variant may be waited for under `scaling.mode: Demand`, unless it is suspended, or what keeps it from
running is for a person to mend. `auto` waits only where nothing that runs fits, and then for the best that
sleeps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.enums import ConditionStatus, FallbackTrigger
from roundhouse_api.selection import Needs, UnknownModelError, mismatch, ranked, without_guesses
from roundhouse_gateway.fallbacks import stand_ins
from roundhouse_gateway.load import Counts
from roundhouse_gateway.snapshot import Entry, Snapshot
from roundhouse_gateway.transcription_request import AUTO

_FAILED_STARTS: Final = frozenset(
    {
        Reason.CRASH_LOOP,
        Reason.OOM_KILLED,
        Reason.START_TIMEOUT,
        Reason.IMAGE_PULL,
        Reason.CONFIG_ERROR,
        Reason.SECRET_NOT_FOUND,
        Reason.VERIFICATION_FAILED,
    }
)
"""Pods are there and fail. At zero another start is worth a try: the cause may be gone."""
WRONG: Final = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.UNSUPPORTED_VALUE,
        Reason.NOT_YET_SUPPORTED,
        Reason.INVALID_POD_TEMPLATE,
        Reason.NOT_SHAREABLE,
        Reason.NAME_CONFLICT,
        Reason.ENGINE_NOT_FOUND,
        Reason.NO_MATCHING_ENGINE,
        Reason.ENGINE_NOT_ACCEPTED,
        Reason.WEIGHTS_MISSING,
        Reason.SOURCE_NOT_FOUND,
        Reason.UNAUTHORIZED,
        Reason.DIGEST_MISMATCH,
        Reason.OUT_OF_SPACE,
        Reason.SECRET_UNREADABLE,
        Reason.SECRET_NOT_LABELLED,
    }
)
"""No pod can come of it, however long somebody waits."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks for: `auto` or a name, what the model must be able to do, and which it may use.

    `key` is the id of the API key that it came with: keys take turns where requests wait.
    """

    name: str
    needs: Needs
    allows: Callable[[str], bool]
    key: str = ""

    @property
    def auto(self) -> bool:
        return self.name == AUTO


def sleeper(snapshot: Snapshot, wish: Wish, *, waiting: bool = False) -> Entry | None:
    """What to wait for. Who is `waiting` already goes on while a start fails: the next may succeed."""

    def worth_it(entry: Entry) -> bool:
        allowed = wish.allows(entry.model.id)
        return allowed and entry.may_be_waited_for and not _hopeless(entry, waiting=waiting)

    if wish.auto:
        in_order = snapshot.wakeable.fitting(wish.needs)
        asleep = without_guesses(in_order, snapshot.catalogue, wish.needs, wish.allows)
        entries = (snapshot.entries[model.id] for model in asleep)
        return next((entry for entry in entries if worth_it(entry)), None)
    entry = _named(snapshot, wish.name)
    fits = entry is not None and entry.model.stage is not None and mismatch(entry.model, wish.needs) is None
    return entry if entry is not None and fits and worth_it(entry) else None


def running(snapshot: Snapshot, wish: Wish) -> Entry | None:
    """Who would answer now."""
    if wish.auto:
        best = next(ranked(snapshot.catalogue, wish.needs, wish.allows), None)
        return snapshot.entries[best.id] if best else None
    entry = _named(snapshot, wish.name)
    if entry is None or entry.model.running:
        return entry
    found = stand_ins(snapshot, entry, wish.needs, wish.allows)
    return next((each.entry for each in found if FallbackTrigger.UNAVAILABLE in each.when), None)


def has_room(entry: Entry, counts: Counts) -> bool:
    """Whether its endpoints take one more, as far as this gateway knows: others send requests there too."""
    each, target = entry.record.effective.max_in_flight_per_replica, entry.target
    if each is None or target is None:
        return True
    return counts.in_flight + counts.streams < each * len(target.base_urls)


def _named(snapshot: Snapshot, name: str) -> Entry | None:
    try:
        return snapshot.resolve(name)
    except UnknownModelError:
        return None


def _hopeless(entry: Entry, *, waiting: bool) -> bool:
    ready = entry.record.ready
    if ready.status is not ConditionStatus.FALSE:
        return False
    failing = ready.reason in _FAILED_STARTS and entry.record.wanted and not waiting
    return failing or ready.reason in WRONG
