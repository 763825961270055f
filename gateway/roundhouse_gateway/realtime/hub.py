"""All that realtime speech needs from the gateway's start to its end, put together for the server."""

from starlette.types import ASGIApp

from roundhouse_gateway.endpoints import Endpoints
from roundhouse_gateway.error_shapes import SINGLE_USE_TOKENS
from roundhouse_gateway.guard import Guard
from roundhouse_gateway.hold import Hold
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.realtime.door import Door, open_door
from roundhouse_gateway.realtime.endpoint import EngineSockets
from roundhouse_gateway.realtime.leaving import Leaving
from roundhouse_gateway.realtime.sessions import Sessions
from roundhouse_gateway.realtime.token_routes import CLIENT_SECRETS, Secrets
from roundhouse_gateway.realtime.tokens import LocalTokens, SharedTokens, Tokens
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.traces import Tracer


class Hub:
    """Made within the running loop."""

    def __init__(
        self, settings: Settings, metrics: Metrics, endpoints: Endpoints, among_workers: Tokens | None = None
    ) -> None:
        """`among_workers` keeps tokens where there are several of them, and no store."""
        self._settings = settings
        self._metrics = metrics
        self._sockets = EngineSockets(settings, metrics, endpoints)
        self._leaving = Leaving(settings.drain_seconds)
        self._tokens = _tokens(settings, among_workers)

    def door(self, registry: Registry, hold: Hold, guard: Guard | None, tracer: Tracer | None) -> Door:
        """What answers WebSockets."""
        sessions = Sessions(self._settings, registry, hold, self._sockets, self._metrics, self._leaving)
        return open_door(sessions, guard, self._tokens, tracer)

    def posts(self) -> dict[str, ASGIApp]:
        """What gives keys for a moment, by its paths."""
        return dict.fromkeys((CLIENT_SECRETS, SINGLE_USE_TOKENS), Secrets(self._settings, self._tokens))

    def leave(self) -> None:
        """Tell all sessions that the gateway is about to end."""
        self._leaving.begin()

    async def close(self) -> None:
        await self._tokens.close()


def _tokens(settings: Settings, among_workers: Tokens | None) -> Tokens:
    url = settings.limits_store_url.get_secret_value()
    if not url:
        return among_workers or LocalTokens()
    from roundhouse_gateway.shared_limits import open_store  # noqa: PLC0415 - megabytes, for some

    return SharedTokens(open_store(url))
