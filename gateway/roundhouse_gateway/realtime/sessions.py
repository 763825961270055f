"""What every session passes, whatever its client speaks: which model it gets, and a place with its engine."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from roundhouse_api.enums import FallbackTrigger, Interface, Stage
from roundhouse_api.keys import Grant
from roundhouse_api.selection import Needs, UnknownModelError, mismatch
from roundhouse_gateway.choice import Search, choose, entry_named, model_named
from roundhouse_gateway.entry import Entry
from roundhouse_gateway.errors import (
    GatewayError,
    InvalidRequestError,
    NotReadyError,
)
from roundhouse_gateway.exchange import Exchange
from roundhouse_gateway.hold import Admitted, Client, Hold
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.realtime.endpoint import EngineSockets, FullError
from roundhouse_gateway.realtime.engine_socket import EngineSocket
from roundhouse_gateway.realtime.leaving import Leaving
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.sleepers import Wish
from roundhouse_gateway.transcription_request import AUTO, read_language

_LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """A session as its client describes it. `parameters` are the engine's, without `model`."""

    model: str
    parameters: Mapping[str, str]

    @property
    def needs(self) -> Needs:
        return Needs(
            stage=Stage.TRANSCRIBE,
            interface=Interface.REALTIME,
            language=read_language(self.parameters.get("language")),
            streaming=True,
            word_timestamps=self.parameters.get("word_timestamps", "").lower() in ("true", "1"),
        )


@dataclass(frozen=True, slots=True)
class Sessions:
    """Opens sessions with engines."""

    settings: Settings
    registry: Registry
    hold: Hold
    sockets: EngineSockets
    metrics: Metrics
    leaving: Leaving

    def check(self, wanted: Wanted, exchange: Exchange) -> None:
        """Raises where the model that is named could not be had, however long it was waited for."""
        if not wanted.model or not self.registry.complete:
            return
        snapshot, grant = self.registry.snapshot, exchange.grant
        name = self._realtime_name(wanted, grant)
        exchange.model = model_named(snapshot, name, grant)
        if name != AUTO:
            entry_named(snapshot, name, wanted.needs, Search(self.metrics), grant)

    @asynccontextmanager
    async def open(self, wanted: Wanted, client: Client, exchange: Exchange) -> AsyncIterator[EngineSocket]:
        """A session with the engine that was chosen; it counts as a stream of that model meanwhile."""
        if not self.registry.complete:
            raise NotReadyError("The gateway has not read the cluster yet.")
        if self.leaving.begun:
            raise NotReadyError("The gateway is shutting down; begin the session again.")
        name = self._realtime_name(wanted, exchange.grant)
        exchange.model = model_named(self.registry.snapshot, name, exchange.grant)
        wish = Wish(name, wanted.needs, exchange.grant.allows_model, exchange.key_id)
        choosing = partial(self._choose, name, wanted.needs, exchange.grant, Search(self.metrics))
        async with AsyncExitStack() as opened:
            admitted = opened.enter_context(await self.hold.admit(wish, choosing, client))
            while (socket := await self._take(admitted, wanted, exchange, opened)) is None:
                await admitted.wait(client)
            admitted.streams()
            yield socket

    async def _take(
        self, admitted: Admitted, wanted: Wanted, exchange: Exchange, opened: AsyncExitStack
    ) -> EngineSocket | None:
        """Of the first entry that has a place; None where none has, and one may be waited for."""
        for attempt in admitted.attempts():
            entry = attempt.entry
            exchange.model = entry.model.id
            try:
                socket = await opened.enter_async_context(
                    self.sockets.open(entry, wanted.parameters, exchange)
                )
            except FullError as error:
                if not attempt.goes_on(FallbackTrigger.RATE_LIMITED) and not admitted.may_wait:
                    raise _told(admitted, entry, error, exchange) from None
            except GatewayError as error:
                if not attempt.goes_on(error):
                    raise _told(admitted, entry, error, exchange) from None
            else:
                return socket
        return None

    def _choose(self, name: str, needs: Needs, grant: Grant, search: Search) -> Sequence[Entry]:
        found = choose(self.registry.snapshot, name, needs, search, grant)
        return self.sockets.endpoints.order(found) if name == AUTO else found

    def _realtime_name(self, wanted: Wanted, grant: Grant) -> str:
        """The model, or the one that its resource names for realtime where it takes no sessions itself.

        Whoever may not use both of them hears of none.
        """
        name = wanted.model or self.settings.default_model
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise InvalidRequestError(
                f"`model` must be at most {_LONGEST_NAME} printable characters.", param="model"
            )
        snapshot = self.registry.snapshot
        if name == AUTO:
            return name
        try:
            entry = snapshot.resolve(name)
        except UnknownModelError:
            return name
        plain = Needs(stage=Stage.TRANSCRIBE, interface=Interface.REALTIME, streaming=True)
        stand_in = (entry.record.namespace, entry.record.realtime_variant)
        if entry.record.realtime_variant and mismatch(entry.model, plain) is not None:
            found = (each.model.id for each in snapshot.entries.values() if each.place == stand_in)
            instead = next(found, name)
            return instead if grant.allows_model(entry.model.id) and grant.allows_model(instead) else name
        return name


def _told(admitted: Admitted, entry: Entry, error: GatewayError, exchange: Exchange) -> GatewayError:
    """Of several that were asked the failure of the first, which was asked for."""
    first, told = admitted.first_failure or (entry, error)
    exchange.model = first.model.id
    return told
