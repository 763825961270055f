"""The running gateway: watches, client and two listeners, started together and ended in the right order.

SIGTERM is the drain: readiness goes off at once, connections are taken a little longer while the cluster
takes notice, then running requests may finish.
"""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ssl import SSLContext
from typing import Any

import aiohttp
import uvicorn
from starlette.types import ASGIApp, Receive

from roundhouse_gateway.app import build_api, build_service
from roundhouse_gateway.cluster import API_KEYS, WATCHED, ApiServer, Sink, Watched, watch_all
from roundhouse_gateway.credentials import Credentials
from roundhouse_gateway.endpoints import Endpoints
from roundhouse_gateway.front import front, tracing
from roundhouse_gateway.guard import Guard
from roundhouse_gateway.hold import Hold, Limits
from roundhouse_gateway.json_body import JsonBodies
from roundhouse_gateway.keyring import Keyring
from roundhouse_gateway.limits import KeyLimits, LocalLimits
from roundhouse_gateway.listener import Listener
from roundhouse_gateway.load import LoadBook, LoadReport
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.protocol import ConnectionLimits, end_dead_connections, limited
from roundhouse_gateway.realtime.client_socket import websockets
from roundhouse_gateway.realtime.door import Switch
from roundhouse_gateway.realtime.hub import Hub
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.routes import Readiness
from roundhouse_gateway.series import Value
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.speech.audio_api import TRANSCRIPTIONS, TRANSLATIONS
from roundhouse_gateway.speech.elevenlabs import SpeechToText
from roundhouse_gateway.speech.route import SpeechRoute
from roundhouse_gateway.spool import Spool
from roundhouse_gateway.text.engines import TextEngines
from roundhouse_gateway.text.lane import Lane, no_route, takes_lane
from roundhouse_gateway.text.pool import Pool
from roundhouse_gateway.text.protocol import fast
from roundhouse_gateway.text.serve import ROUTES as TEXT_ROUTES
from roundhouse_gateway.text.serve import TextRoutes
from roundhouse_gateway.tls import certified
from roundhouse_gateway.traces import Tracer
from roundhouse_gateway.upload import Upload
from roundhouse_gateway.upstream import EngineClient

log = logging.getLogger("roundhouse.gateway")

BACKLOG = 2048
# Longer than load balancers keep a connection: the one that listens must not be the first to close.
KEEP_ALIVE_SECONDS = 75


@dataclass(frozen=True, slots=True)
class _Door:
    """Where it is listened, and how."""

    port: int
    drain_seconds: float
    connections: Value = field(default_factory=Value)
    """Counts those that are open."""
    tls: SSLContext | None = None
    lane: Lane | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts that requests meet."""

    settings: Settings
    registry: Registry
    readiness: Readiness
    metrics: Metrics
    engines: EngineClient
    text: TextEngines
    realtime: Hub
    load: LoadBook
    keyring: Keyring | None
    access: Credentials
    limits: KeyLimits

    @classmethod
    def build(cls, settings: Settings, limits: KeyLimits) -> "Gateway":
        registry = Registry(settings.served_namespaces, aliases_enabled=settings.aliases_enabled)
        metrics = Metrics(registry.age_seconds, lambda: len(registry.snapshot.entries))
        metrics.limits_store_away.set_function(lambda: float(limits.away))
        endpoints = Endpoints(registry)
        engines = EngineClient(settings, metrics, endpoints)
        pool = Pool(settings.connect_timeout_seconds)
        text = TextEngines(settings, metrics, endpoints, engines.load, pool)
        keyring = Keyring() if settings.keys_namespace else None
        access = Credentials(registry)
        readiness = Readiness(registry, keyring, access)
        realtime, book = Hub(settings, metrics, endpoints), LoadBook()
        return cls(
            settings, registry, readiness, metrics, engines, text, realtime, book, keyring, access, limits
        )

    def api(self, tracer: Tracer | None) -> tuple[ASGIApp, Lane | None]:
        """What clients talk to, and the shorter way for most of what they ask as JSON."""
        spool = Spool(self.settings.spool_dir, self.settings.spool_limit_bytes)
        self.metrics.spool_bytes.set_function(lambda: spool.used_bytes)
        limits = Limits(self.settings.hold_limit, self.settings.hold_limit_per_variant)
        hold = Hold(self.registry, self.load, limits, self.metrics)
        speech = {
            manner.path: SpeechRoute(
                manner, self.settings, self.registry, self.engines, hold, spool, self.metrics
            )
            for manner in (TRANSCRIPTIONS, TRANSLATIONS, SpeechToText())
        }
        bodies = JsonBodies(
            limit_bytes=min(self.settings.json_limit_bytes, self.settings.body_limit_bytes),
            depth_limit=self.settings.json_depth_limit,
            room_bytes=self.settings.json_room_bytes,
        )
        text = TextRoutes(self.settings, self.registry, self.text, hold, self.metrics, bodies)
        posts: dict[str, ASGIApp] = {**speech, **dict.fromkeys(TEXT_ROUTES, text), **self.realtime.posts()}
        guard = self._guard()
        app = build_api(self.readiness, self.metrics, posts, front(self.settings, guard, tracer))
        switch = Switch(app, self.realtime.door(self.registry, hold, guard(app) if guard else None, tracer))
        if tracer is not None or not takes_lane(self.settings):
            return switch, None
        keys, model = guard(no_route) if guard else None, self.settings.default_model
        return switch, Lane(self.registry, self.text, hold, self.metrics, bodies, keys, model)

    def door(self, tls: SSLContext | None, lane: Lane | None) -> _Door:
        """That of clients."""
        return _Door(self.settings.port, self.settings.drain_seconds, self.metrics.connections, tls, lane)

    def service(self) -> ASGIApp:
        return build_service(self.readiness, self.metrics, LoadReport(self.load))

    def followed(self) -> Iterator[tuple[Watched, str, Sink]]:
        """What to watch, where, and who is told."""
        for namespace in self.settings.served_namespaces:
            for watched in WATCHED:
                yield watched, namespace, self.registry
        if self.keyring is not None:
            yield API_KEYS, self.settings.keys_namespace, self.keyring

    def _guard(self) -> Callable[[ASGIApp], Guard] | None:
        if self.keyring is None:
            log.warning(
                "OPEN TO ALL: no API key is asked for. Set ROUNDHOUSE_GATEWAY_KEYS_NAMESPACE to the "
                "namespace of their Secrets, or keep strangers away by other means."
            )
            return None
        settings, keyring, limits = self.settings, self.keyring, self.limits

        def make_upload(receive: Receive) -> Upload:
            limit, idle = settings.body_limit_bytes, settings.client_idle_seconds
            rate = settings.upload_bytes_per_second
            return Upload(receive, limit_bytes=limit, idle_seconds=idle, least_rate=rate)

        return lambda app: Guard(app, keyring, limits, lambda: datetime.now(UTC), make_upload)


@asynccontextmanager
async def _counting(settings: Settings) -> AsyncIterator[KeyLimits]:
    """What counts the limits of keys during the block: alone, or together with other gateways."""
    url = settings.limits_store_url.get_secret_value()
    if not url:
        yield LocalLimits(time.time)
        return
    from roundhouse_gateway.shared_limits import SharedLimits, open_store  # noqa: PLC0415 - megabytes, for some

    limits = SharedLimits(open_store(url), closed=settings.limits_store_away == "closed")
    renewing = asyncio.create_task(limits.run())
    try:
        yield limits
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await limits.close()


def _on_stray_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs what no task was asked for, but for one thing that is told elsewhere.

    aiohttp sends a body in a task of its own. Where the engine leaves at the body's very end nobody asks that
    task; that the engine has gone is told by the answer that does not come.
    """
    if not isinstance(context.get("exception"), aiohttp.ClientConnectionResetError):
        loop.default_exception_handler(context)


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT, and then until what was begun is finished."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_stray_error)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with _counting(settings) as limits:
        with tracing(settings.otlp_endpoint) as tracer:
            await _serve(Gateway.build(settings, limits), tracer, stop)
    log.info("ended")


async def _serve(gateway: Gateway, tracer: Tracer | None, stop: asyncio.Event) -> None:
    settings = gateway.settings
    app, lane = gateway.api(tracer)
    try:
        async with (
            _following(gateway, stop),
            _listening(gateway.service(), settings, _Door(settings.metrics_port, 1.0)) as service,
            certified(settings.tls_cert_file, settings.tls_key_file) as tls,
            _listening(app, settings, gateway.door(tls, lane)) as api,
        ):
            log.info("listening on %s, metrics on %s", api, service)
            await stop.wait()
            log.info("draining: unready at once, no new connections in %g s", settings.drain_delay_seconds)
            gateway.readiness.draining = True
            with suppress(TimeoutError):
                stop.clear()
                await asyncio.wait_for(stop.wait(), settings.drain_delay_seconds)
            gateway.realtime.leave()
    finally:
        gateway.text.close()
        await gateway.engines.close()
        await gateway.realtime.close()


@asynccontextmanager
async def _following(gateway: Gateway, stop: asyncio.Event) -> AsyncIterator[None]:
    """Watches the cluster during the block. A fault in that ends the gateway: a blind one is worse."""
    api = await ApiServer.from_environment()
    watches = asyncio.create_task(watch_all(api, gateway.followed(), gateway.access.run(api.fetch)))

    def on_end(watches: "asyncio.Task[None]") -> None:
        if not watches.cancelled():
            log.critical("the cluster is no longer watched; ending", exc_info=watches.exception())
            stop.set()

    watches.add_done_callback(on_end)
    try:
        yield
    finally:
        watches.cancel()
        await asyncio.gather(watches, return_exceptions=True)
        await api.close()


@asynccontextmanager
async def _listening(app: ASGIApp, settings: Settings, door: _Door) -> AsyncIterator[str]:
    """Serves during the block; at its end takes nothing new and lets requests finish for a while."""
    limits = _connection_limits(settings)
    protocol = limited(limits, door.connections)
    config = uvicorn.Config(
        app,
        loop="none",
        http=fast(protocol, door.lane) if door.lane else protocol,
        **websockets(door.connections),
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # uvicorn would believe whoever comes from loopback
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(door.drain_seconds)),
    )
    config.load()
    listener = Listener(config, door.tls, limits, door.connections)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.create_server((settings.host, door.port), family=family, backlog=BACKLOG)
    end_dead_connections(bound, settings.client_idle_seconds)
    serving = asyncio.create_task(listener.serve(sockets=[bound]))
    try:
        yield "{}:{}".format(*bound.getsockname()[:2])
    finally:
        listener.should_exit = True
        await serving


def _connection_limits(settings: Settings) -> ConnectionLimits:
    return ConnectionLimits(settings.connection_limit, settings.header_limit_bytes, settings.header_seconds)
