"""What a client is told of a model that does not run: why, as far as it may know, and if to ask again."""

from collections.abc import Iterable
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.keys import Grant, Scope
from roundhouse_gateway.entry import Entry
from roundhouse_gateway.errors import NotRunningError
from roundhouse_gateway.pace import retry_after
from roundhouse_gateway.sleepers import WRONG

_STANDS_STILL: Final = WRONG | {
    Reason.SCALED_TO_ZERO,
    Reason.SUSPENDED,
    Reason.FORMAT_NOT_LOADED,
    Reason.UNSAFE_FORMAT,
    Reason.STORAGE_CLASS_NOT_FOUND,
    Reason.SECRET_NOT_FOUND,
    Reason.CONFIG_MAP_NOT_FOUND,
    Reason.NO_GPU,
    Reason.INSUFFICIENT_VRAM,
    Reason.UNKNOWN_VRAM,
    Reason.SHARED_GPU,
    Reason.MIXED_GPUS,
    Reason.INSUFFICIENT_RESOURCES,
    Reason.NO_MATCHING_NODE,
    Reason.DRA_UNAVAILABLE,
    Reason.QUOTA_EXCEEDED,
}
"""It does not begin to run until a person has done something."""
_BREAKS: Final = {Reason.CRASH_LOOP, Reason.START_TIMEOUT}
"""It is started again by itself, and often it ends as it did."""
_WHAT_TO_DO: Final = "It does not start by itself: ask whoever operates it."


def not_running(entry: Entry, grant: Grant) -> NotRunningError:
    """For whoever may use the model, and named it."""
    error = NotRunningError(entry.model.id, _because(entry, grant))
    if stands_still([entry]):
        error.retry_after, error.retry_is_useless = None, True
    else:
        error.retry_after = retry_after(entry.record.remaining_seconds)
    return error


def would_fit(entry: Entry, grant: Grant) -> str:
    """A sentence for whoever named no model: this one could answer if it ran."""
    return f". '{entry.model.id}' could answer and is not running{_because(entry, grant)}"


def stands_still(entries: Iterable[Entry]) -> bool:
    """Whether none of them can be expected to run soon. Under `mode: Demand` a request wakes what it can."""
    return all(
        entry.record.ready.reason in (WRONG if entry.may_be_waited_for else _STANDS_STILL)
        for entry in entries
    )


def _because(entry: Entry, grant: Grant) -> str:
    """The reason of the model's state, and, for whoever may look at models, the words shown there."""
    ready = entry.record.ready
    if ready.reason == Reason.SERVING:  # what the operator has not seen yet, the gateway has
        return ": no endpoint answers just now."
    said = ready.message.rstrip(". ") if Scope.MODELS in grant.scopes else ""
    return f" ({ready.reason}){': ' + said if said else ''}. {_what_to_do(entry)}"


def _what_to_do(entry: Entry) -> str:
    if stands_still([entry]):
        return _WHAT_TO_DO
    if entry.record.ready.reason in _BREAKS:
        return "It is started again: try later, and if that does not help ask whoever operates it."
    return "Try again."
