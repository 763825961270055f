"""What a client is told whose `model` is nobody's name: the ids of its route that its key may use."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final

from roundhouse_api.keys import Grant
from roundhouse_api.selection import Needs, UnknownModelError, mismatch
from roundhouse_gateway.errors import UnknownModelRequestError
from roundhouse_gateway.snapshot import Snapshot

NAMED: Final = 10
"""In the message, which every client sees and the log keeps."""
_ELSEWHERE: Final = "`GET /v1/models` lists the models that there are."
LOOKED_AT: Final = 1000
"""For the message, which is made for each such request: there may be ten thousand ids."""


def unknown(
    snapshot: Snapshot, error: UnknownModelError, needs: Needs, grant: Grant
) -> UnknownModelRequestError:
    told = partial(_explained, snapshot, error, needs, grant)
    return UnknownModelRequestError(error.name, _there_are(snapshot, needs, grant), told)


def _there_are(snapshot: Snapshot, needs: Needs, grant: Grant) -> str:
    ids = snapshot.catalogue.ids
    found = list(islice(_fitting(snapshot, islice(ids, LOOKED_AT), needs, grant), NAMED + 1))
    all_of_them = len(found) <= NAMED and len(ids) <= LOOKED_AT
    if not found:
        return _ELSEWHERE
    listed = ", ".join(found[:NAMED])
    return (
        f"Models here: {listed}." if all_of_them else f"Models here: {listed}; `GET /v1/models` lists more."
    )


def _explained(snapshot: Snapshot, error: UnknownModelError, needs: Needs, grant: Grant) -> str:
    """Made for those who read it alone."""
    ids = list(_fitting(snapshot, snapshot.catalogue.ids, needs, grant))
    return error.text(ids) if ids else f"{error.text(ids)}none of this kind. {_ELSEWHERE}"


def _fitting(snapshot: Snapshot, ids: Iterable[str], needs: Needs, grant: Grant) -> Iterator[str]:
    """Those that do what the route is for; whether they can do all that is asked is another matter."""
    of_route = Needs(needs.stage, needs.interface)
    for each in ids:
        if mismatch(snapshot.entries[each].model, of_route) is None and grant.allows_model(each):
            yield each
