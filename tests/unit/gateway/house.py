"""A hold over a registry that a test fills by hand."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from roundhouse_api.enums import ConditionStatus, Stage
from roundhouse_api.keys import Grant
from roundhouse_api.selection import Needs
from roundhouse_gateway.choice import Search, choose
from roundhouse_gateway.hold import Admitted, Hold, Limits
from roundhouse_gateway.load import Counts, LoadBook
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.records import Endpoint, Summary, VariantRecord
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.sleepers import Wish
from roundhouse_gateway.snapshot import Entry
from tests.unit.gateway.resources import READY, VARIANT, joined, lost, slice_with

TRANSCRIBE = Needs(stage=Stage.TRANSCRIBE)
PLACE = ("models", "whisper")
IDLE = replace(
    VARIANT,
    effective=VARIANT.effective.model_copy(
        update={"scaling_mode": "Demand", "max_hold_seconds": 60, "max_in_flight_per_replica": 1}
    ),
    wanted=False,
    available=lost("Idle"),
    ready=Summary(ConditionStatus.TRUE, "Idle", ""),
)
MANUAL = replace(IDLE, effective=VARIANT.effective)
HASTY = replace(IDLE, effective=IDLE.effective.model_copy(update={"max_hold_seconds": 0}))
SECOND = replace(READY, host="10.0.0.2")


EVERYTHING = Grant()


class Client:
    """Stays until it is told to leave."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def until_gone(self) -> None:
        await self.left.wait()


class House:
    """A hold over a registry that a test fills by hand."""

    def __init__(
        self, *variants: VariantRecord, in_all: int = 9, per_variant: int = 9, book: LoadBook | None = None
    ) -> None:
        self.registry = Registry(["models"], aliases_enabled=True)
        self.book = book or LoadBook()
        self.metrics = Metrics(lambda: 0.0, lambda: 0)
        self.hold = Hold(self.registry, self.book, Limits(in_all, per_variant), self.metrics)
        self.variants = variants
        self.see()

    def see(self, *endpoints: Endpoint) -> None:
        """The first variant has these endpoints now."""
        slices = [slice_with(*endpoints)] if endpoints else []
        self.registry.snapshot = joined(self.variants, slices)
        for told in self.registry.on_rebuild:
            told()

    def ask(
        self, name: str = "whisper-base", client: Client | None = None, grant: Grant = EVERYTHING
    ) -> "asyncio.Task[Admitted]":
        search = Search(self.metrics)

        def chosen() -> Sequence[Entry]:
            return choose(self.registry.snapshot, name, TRANSCRIBE, search, grant)

        wish = Wish(name, TRANSCRIBE, grant.allows_model, grant.name)
        return asyncio.ensure_future(self.hold.admit(wish, chosen, client or Client()))

    @property
    def counts(self) -> Counts:
        return self.book.of(PLACE)
