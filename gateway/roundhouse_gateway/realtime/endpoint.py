"""A session's socket to an engine: the least loaded endpoint that takes it, the next one where that does not.

The engine's accepting is the reservation of a place, so a session has one before its client is let in.
"""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec

from roundhouse_api.enums import Dialect, RouteName
from roundhouse_gateway.access import distrust, trust
from roundhouse_gateway.endpoint_load import Load
from roundhouse_gateway.endpoints import HASTY, Endpoints
from roundhouse_gateway.entry import Entry
from roundhouse_gateway.errors import (
    EngineFailedError,
    EngineNotSupportedError,
    EngineUnreachableError,
    GatewayError,
)
from roundhouse_gateway.exchange import Exchange
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.realtime.asked import read_asked
from roundhouse_gateway.realtime.closing import engine_error
from roundhouse_gateway.realtime.engine_link import EngineLink, connect
from roundhouse_gateway.realtime.engine_socket import EngineSocket
from roundhouse_gateway.realtime.foreign import SPEAKERS, inlet_for, speaking
from roundhouse_gateway.realtime.greeting import RefusedError
from roundhouse_gateway.realtime.turns import Turns
from roundhouse_gateway.relay import is_fault
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.tour import FULL, REFUSALS
from roundhouse_gateway.traces import onwards
from roundhouse_gateway.upstream import REASON_HEADER
from roundhouse_gateway.upstream_errors import UntrustedUpstreamError

_REASONS: Final = frozenset({REASON_HEADER.lower(), "retry-after"})
ERROR_HEADER: Final = "X-Roundhouse-Error"
"""The engine's words, because what follows the head of a refused handshake is read by few clients."""


class FullError(GatewayError):
    """Every place for a session is taken, at each endpoint."""

    status = 429
    type = "rate_limit_error"
    code = "engine_full"
    retry_after = 1

    def __init__(self, model_id: str) -> None:
        super().__init__(f"Every place for a session of engine '{model_id}' is taken; try again.")


class Try(NamedTuple):
    """Of one endpoint, `sent` by the clock of `Ejections`; `hasty`: there are others."""

    base_url: str
    sent: float
    hasty: bool = False


class EngineSockets:
    """The one WebSocket client of engines."""

    def __init__(self, settings: Settings, metrics: Metrics, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self._metrics = metrics
        self._load = Load()
        self._turns = Turns()
        self._connect_seconds = settings.connect_timeout_seconds

    @asynccontextmanager
    async def open(
        self, entry: Entry, parameters: Mapping[str, str], exchange: Exchange
    ) -> AsyncIterator[EngineSocket]:
        """A session that the engine has accepted, as long as the block runs.

        Raises `FullError` where all endpoints are full, `EngineUnreachableError` where none takes it, and the
        engine's own refusal.
        """
        dialect = entry.record.effective.dialect
        if dialect != Dialect.ROUNDHOUSE and dialect not in SPEAKERS:
            raise EngineNotSupportedError(
                f"Engine '{entry.model.id}' has sessions in a dialect that this version cannot speak."
            )
        tried: set[str] = set()
        refusal: GatewayError | None = None
        try:
            while addresses := self._addresses(entry, tried, refusal):
                base_url = self._load.least(addresses)
                tried.add(base_url)
                hasty = bool(self.endpoints.untried(entry, tried))
                at = Try(base_url, self.endpoints.ejections.clock(), hasty)
                with self._load.hold(base_url):
                    try:
                        socket = await self._begin(entry, at, parameters, exchange)
                    except (FullError, EngineUnreachableError) as error:
                        # That one is full says more than that another is not there.
                        refusal = refusal if isinstance(refusal, FullError) else error
                        continue
                    self._answered(entry, at)
                    try:
                        yield socket
                    finally:
                        with suppress(Exception):
                            await socket.close()
                    return
        finally:
            self.endpoints.ejections.leave(entry.model.id, tried)
        raise refusal or EngineUnreachableError(f"Engine '{entry.model.id}' has no endpoint just now.")

    def _addresses(self, entry: Entry, tried: set[str], refusal: GatewayError | None) -> Collection[str]:
        """Those that may be asked next."""
        if isinstance(refusal, FullError):
            return self.endpoints.sound(entry, tried)
        return self.endpoints.choosable(entry, tried, tried)

    def _answered(self, entry: Entry, at: Try) -> None:
        if self.endpoints.ejections.troubled:
            self.endpoints.answered(entry, at.base_url, at.sent)

    async def _begin(
        self, entry: Entry, at: Try, parameters: Mapping[str, str], exchange: Exchange
    ) -> EngineSocket:
        """A socket that speaks our protocol, whatever the engine does."""
        model = entry.model
        speaks = SPEAKERS.get(entry.record.effective.dialect or "")
        if speaks is None:
            query = {**parameters, "model": model.engine_model}
            return await self._connect(entry, at, query, exchange)
        asked = read_asked(parameters, model.id)
        speaker = speaks(model.engine_model, asked)
        inlet = await inlet_for(asked, speaker)
        socket = await self._connect(entry, at, speaker.query(), exchange)
        try:
            return await speaking(socket, speaker, inlet, asked, entry)
        except (OSError, TimeoutError) as error:
            self._metrics.engine_errors(model.id, "unreachable").inc()
            self.endpoints.failed(entry, at.base_url, "unreachable", at.sent)
            raise EngineUnreachableError(f"Engine '{model.id}' takes no sessions just now.") from error
        except EngineFailedError:
            self._metrics.engine_errors(model.id, "broken").inc()
            self.endpoints.failed(entry, at.base_url, "error", at.sent)
            raise

    async def _connect(
        self, entry: Entry, at: Try, query: Mapping[str, str], exchange: Exchange
    ) -> EngineLink:
        model = entry.model
        headers = {
            **onwards.get(),
            "x-request-id": exchange.request_id,
            "via": exchange.via,
            **entry.headers,
        }
        url = f"{entry.url(at.base_url, RouteName.REALTIME)}?{urlencode(query)}"
        try:
            async with self._turns.take(at.base_url):
                trusted = trust(entry.access.ca)
                seconds = self._connect_seconds * (HASTY if at.hasty else 1)
                return await connect(url, headers, trusted, seconds, entry.access)
        except RefusedError as error:
            if is_fault(error.status, reasoned=not _REASONS.isdisjoint(error.headers)):
                self.endpoints.failed(entry, at.base_url, "error", at.sent)
            else:
                self._answered(entry, at)
            raise self._refused(entry, error) from error
        except (OSError, TimeoutError) as error:
            self._metrics.engine_errors(model.id, "unreachable").inc()
            self.endpoints.failed(entry, at.base_url, "unreachable", at.sent)
            if why := distrust(error):
                raise UntrustedUpstreamError(model.id, why) from error
            raise EngineUnreachableError(
                f"No endpoint of engine '{model.id}' takes connections just now."
            ) from error

    def _refused(self, entry: Entry, error: RefusedError) -> GatewayError:
        model = entry.model.id
        headers = error.headers
        reason = headers.get(REASON_HEADER.lower(), "")
        if reason in REFUSALS:
            self._metrics.engine_errors(model, reason).inc()
            if reason == FULL:
                return FullError(model)
            return EngineUnreachableError(f"Engine '{model}' takes no sessions just now.")
        said = _said(headers.get(ERROR_HEADER.lower(), ""))
        if error.status in (400, 422) and (message := said.get("message")):
            blotted, param = entry.access.blotted_text, said.get("param")
            return engine_error(error.status, blotted(str(message)), blotted(str(param)) if param else None)
        self._metrics.engine_errors(model, "broken").inc()
        return EngineFailedError(f"Engine '{model}' answered {error.status} instead of taking the session.")


def _said(header: str) -> dict[str, Any]:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(header, type=dict[str, Any])
    return {}
