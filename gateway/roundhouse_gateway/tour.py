"""One request's way through the endpoints of a model: which may still be tried, and what a failure is called.

How an endpoint is picked among those that may be, and how it is asked, is left to those who call engines.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from roundhouse_gateway.access import distrust
from roundhouse_gateway.endpoints import Endpoints
from roundhouse_gateway.errors import (
    EngineFailedError,
    EngineTimeoutError,
    EngineUnreachableError,
    GatewayError,
)
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.upstream_errors import UntrustedUpstreamError

FULL: Final = "full"
REFUSALS: Final = frozenset({FULL, "draining", "loading"})
"""Why an engine takes no request at all, as it says before it has read anything."""
NEWS_SECONDS: Final = 2.0
"""How long the news of another endpoint may be on its way."""

Failure = Literal["unreachable", "timeout", "broken"]
TRIED: Final = "roundhouse.tried"
"""Where a request's scope has what became of it on the fast lane, if an endpoint was asked there in vain."""


@dataclass(frozen=True, slots=True)
class Tried:
    """An endpoint of a model that was asked in vain, and `error`, which would be told of it.

    `Left`: it broke off on a connection that had been kept, and may just have been closed. `Unreadable`: it
    has answered, in a way that another reader may make sense of. `Refused`: it has read nothing, and said
    `reason`. `Failed`: it is not asked again.
    """

    model: str
    base_url: str
    how: Literal["Left", "Unreadable", "Refused", "Failed"]
    error: GatewayError | None = None
    reason: str = ""


@dataclass(slots=True)
class Tour:
    """What was tried so far; `last`: there is no other model to ask.

    `again` are endpoints to go back to where no other is left, `broken` is how often one broke off, and
    `left` the one that did on a connection that had been kept.
    """

    entry: Entry
    last: bool
    tried: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    broken: int = 0
    left: str = ""
    at: str = ""
    sent: float = 0.0
    """Where it was asked last, and when, by the clock of `Ejections`."""

    def goes_to(self, base_url: str, now: float) -> None:
        self.tried.add(base_url)
        self.at, self.sent = base_url, now

    def broke_off(self, base_url: str) -> None:
        """On a kept connection: that was closed before, or this very request has brought the engine down."""
        self.broken += 1
        self.tried.add(base_url)
        self.again.add(base_url)
        self.left = base_url


@dataclass(frozen=True, slots=True)
class Tours:
    """`idle_seconds`: how long an engine may be silent, for the words of that failure."""

    endpoints: Endpoints
    metrics: Metrics
    idle_seconds: float

    async def others(self, tour: Tour) -> bool:
        """Whether another endpoint can be tried, now or, for the last model, in a moment."""
        if not self.endpoints.untried(tour.entry, tour.tried):
            # To be told that those which stay are full is better than that another one leaves.
            tour.tried -= tour.again
            tour.again.clear()
        if self.endpoints.untried(tour.entry, tour.tried):
            return True
        patient = tour.last and not tour.entry.is_upstream
        return patient and await self.endpoints.others(tour.entry, tour.tried, NEWS_SECONDS)

    async def goes_on(self, tour: Tour, base_url: str, reason: str, *, can_be_sent: bool = True) -> bool:
        """Whether an endpoint refused for that reason, and another is tried instead of saying so."""
        if not reason:
            return False
        self.metrics.engine_errors(tour.entry.model.id, reason).inc()
        if not can_be_sent:
            return False
        if reason == FULL:
            tour.again.add(base_url)
            return bool(self.endpoints.sound(tour.entry, tour.tried))
        if await self.others(tour):
            return True
        if not tour.last:
            raise EngineUnreachableError(f"Engine '{tour.entry.model.id}' takes no requests just now.")
        return False

    def nowhere(self, entry: Entry) -> EngineUnreachableError:
        return EngineUnreachableError(f"Engine '{entry.model.id}' has no endpoint just now.")

    def failed(
        self, entry: Entry, reason: Failure, error: Exception | None = None, *, at: str, sent: float
    ) -> GatewayError:
        """What the client is told, and the metrics; `error` is what happened. Empty `at`: nobody's fault."""
        model = entry.model.id
        self.metrics.engine_errors(model, reason).inc()
        if at:
            self.endpoints.failed(entry, at, reason, sent)
        if error is not None and (why := distrust(error)):
            return UntrustedUpstreamError(model, why)
        match reason:
            case "unreachable":
                return EngineUnreachableError(f"No endpoint of engine '{model}' takes connections just now.")
            case "timeout":
                return EngineTimeoutError(
                    f"Engine '{model}' did not answer for {self.idle_seconds:g} seconds."
                )
            case "broken":
                return EngineFailedError(f"Engine '{model}' broke off before it answered.")
