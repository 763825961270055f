"""Which addresses a variant has now, which of them fail, and a short wait for others where none will do.

In a rollout a pod may be told to leave before the gateway hears of it, and of its successor: the news is on
the way then, and comes within moments.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Final, Literal

from roundhouse_gateway.ejection import Ejections
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.snapshot import Entry

log: Final = logging.getLogger("roundhouse.gateway")

HASTY: Final = 0.25
"""The part of the time for connecting that an endpoint has as long as there are others to try."""
Fault = Literal["unreachable", "timeout", "broken", "error"]
"""`error`: it answered that it had failed."""


class Endpoints:
    """Addresses as the newest snapshot has them, whatever a request was chosen by."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics
        self._waiting: set[asyncio.Future[None]] = set()
        self.ejections = Ejections()
        registry.on_rebuild.append(self._tell)

    def of(self, entry: Entry) -> Collection[str]:
        current = self._registry.snapshot.entries.get(entry.model.id)
        target = current.target if current and current.place == entry.place else entry.target
        return target.base_urls if target else ()

    def untried(self, entry: Entry, tried: set[str]) -> Collection[str]:
        return [base_url for base_url in self.of(entry) if base_url not in tried]

    def choosable(self, entry: Entry, tried: set[str], prober: object) -> Collection[str]:
        """Of the untried those to choose from: see `Ejections.among`. Only a first try may be a probe."""
        untried = self.untried(entry, tried)
        if not self.ejections.troubled:
            return untried
        return self.ejections.among(entry.model.id, untried, None if tried else prober)

    def sound(self, entry: Entry, tried: set[str]) -> Collection[str]:
        """Those of the untried that do not rest: one that fails is no way around one that is full."""
        return self.ejections.sound(entry.model.id, self.untried(entry, tried))

    def order(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """The same entries in the same order, but those whose endpoints all rest behind the others."""
        if not self.ejections.troubled:
            return entries
        return sorted(entries, key=lambda entry: self.ejections.all_rest(entry.model.id, self.of(entry)))

    def failed(self, entry: Entry, base_url: str, fault: Fault, sent: float) -> None:
        """A request that was `sent` then came to nothing there, by no fault of its own."""
        model = entry.model.id
        if base_url not in self._known(model):
            return
        if self.ejections.failed(model, base_url, sent, at_once=fault != "error"):
            self._metrics.ejections(model).inc()
            self._metrics.resting_endpoints(model).set(self.ejections.resting(model))
            log.warning(
                "endpoint %s of model %r fails (%s): it is passed over while others answer, and probed",
                base_url,
                model,
                fault,
            )

    def answered(self, entry: Entry, base_url: str, sent: float) -> None:
        """The answer was whole: it works, whatever it says. To be told only while anything is `troubled`."""
        if self.ejections.answered(entry.model.id, base_url, sent):
            self._tell_back(entry.model.id, base_url)

    def began(self, entry: Entry, base_url: str, sent: float) -> None:
        """A stream has begun well, and may take long. To be told only while anything is `troubled`."""
        if self.ejections.began(entry.model.id, base_url, sent):
            self._tell_back(entry.model.id, base_url)

    def _tell_back(self, model: str, base_url: str) -> None:
        self._metrics.resting_endpoints(model).set(self.ejections.resting(model))
        log.info("endpoint %s of model %r answers again", base_url, model)

    async def others(self, entry: Entry, tried: set[str], seconds: float) -> bool:
        """Whether there is an address that was not tried, as soon as there is one or the time is over."""
        try:
            async with asyncio.timeout(seconds):
                while not self.untried(entry, tried):
                    await self._news()
        except TimeoutError:
            return False
        return True

    async def _news(self) -> None:
        """Returns with the next snapshot."""
        told = asyncio.get_running_loop().create_future()
        self._waiting.add(told)
        try:
            await told
        finally:
            self._waiting.discard(told)

    def _tell(self) -> None:
        for told in self._waiting:
            if not told.done():
                told.set_result(None)
        for model in list(self.ejections.troubled):
            self._forget_departed(model)

    def _forget_departed(self, model: str) -> None:
        rested = self.ejections.resting(model)
        self.ejections.keep(model, self._known(model))
        if rested != (rests := self.ejections.resting(model)):
            self._metrics.resting_endpoints(model).set(rests)

    def _known(self, model: str) -> Collection[str]:
        """Those that the model has now: of others nothing is remembered."""
        entry = self._registry.snapshot.entries.get(model)
        return entry.target.base_urls if entry and entry.target else ()
