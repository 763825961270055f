"""What the requests of one route for one model share on the fast lane, as long as a snapshot stands."""

from dataclasses import dataclass
from typing import Final

import msgspec

from roundhouse_api.enums import RouteName
from roundhouse_api.keys import ApiKey
from roundhouse_api.selection import mismatch
from roundhouse_gateway.metrics import Metrics, Tally
from roundhouse_gateway.series import Value
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.text.dialects import url_of
from roundhouse_gateway.text.engines import JSON, head_of
from roundhouse_gateway.text.pool import Address, address_of
from roundhouse_gateway.text.request import PLAIN_NEEDS

MOST_KEYS: Final = 1000
"""Of those that are remembered."""


@dataclass(frozen=True, slots=True)
class Stop:
    """One endpoint: where it listens, and how each request to it begins."""

    base_url: str
    address: Address
    head: bytes


class Way:
    """`fits`: the model can do what plain JSON of the route asks for; `name` is the engine's for it, as JSON.

    `only` is its one endpoint, where it has no more. `unreadable`: endpoints whose answers are.
    """

    __slots__ = (
        "_fares",
        "_metrics",
        "base_urls",
        "defaults",
        "entry",
        "fits",
        "in_flight",
        "model_line",
        "name",
        "only",
        "place",
        "route",
        "stops",
        "unreadable",
    )

    def __init__(
        self, entry: Entry, route: RouteName, path: str, metrics: Metrics, media_type: str = JSON
    ) -> None:
        needs = PLAIN_NEEDS.get(route)
        self.entry = entry
        self.route = route
        self.place = entry.place
        self.fits = needs is not None and mismatch(entry.model, needs) is None
        self.base_urls = entry.target.base_urls if entry.target else ()
        self.stops = {url: _stop(entry, url, route, media_type) for url in self.base_urls}
        self.only = next(iter(self.stops.values())) if len(self.stops) == 1 else None
        self.defaults = entry.record.text.defaults
        self.name = msgspec.json.encode(entry.model.engine_model)
        self.model_line = b"x-roundhouse-model: %s\r\n" % entry.model.id.encode()
        self.unreadable: set[str] = set()
        self.in_flight: Value = metrics.in_flight(path)
        self._metrics = metrics
        self._fares: dict[str, Fare] = {}

    def fare(self, path: str, key: ApiKey | None) -> "Fare | None":
        """None where the key may not use the model."""
        key_id = key.id if key else ""
        found = self._fares.get(key_id)
        if found is not None and found.key is key:
            return found
        if key is not None and not key.grant.allows_model(self.entry.model.id):
            return None
        label = self._metrics.key(key_id, key.grant.name if key else "")
        found = Fare(self, key, self._metrics.tally(path, self.entry.model.id, label))
        if len(self._fares) < MOST_KEYS:
            self._fares[key_id] = found
        return found


@dataclass(frozen=True, slots=True)
class Fare:
    """What the requests of one key on one way share. No key: none is asked for."""

    way: Way
    key: ApiKey | None
    tally: Tally


def way_to(entry: Entry, route: RouteName, path: str, metrics: Metrics, media_type: str = JSON) -> Way | None:
    """None where the model does not run, or another may stand in for it: then the ordinary routes decide."""
    if entry.record.fallbacks or not entry.model.running:
        return None
    return Way(entry, route, path, metrics, media_type)


def _stop(entry: Entry, base_url: str, route: RouteName, media_type: str) -> Stop:
    head = head_of(url_of(entry, base_url, route), media_type) + entry.lines
    return Stop(base_url, address_of(base_url, entry.access.ca), head)
