"""The running gateway: watches, client and two listeners, started together and ended in the right order.

SIGTERM is the drain: readiness goes off at once, connections are taken a little longer while the cluster
takes notice, then running requests may finish.
"""

import asyncio
import gc
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ssl import SSLContext
from typing import Final

from starlette.types import ASGIApp

from roundhouse_gateway.app import build_api, build_service
from roundhouse_gateway.body_room import BodyRoom
from roundhouse_gateway.cluster import API_KEYS, WATCHED, ApiServer, Sink, Watched, watch_all
from roundhouse_gateway.credentials import Credentials
from roundhouse_gateway.dead_connections import Watch
from roundhouse_gateway.departed import Departed
from roundhouse_gateway.endpoints import Endpoints
from roundhouse_gateway.front import front, tracing, uploads
from roundhouse_gateway.guard import Guard
from roundhouse_gateway.hold import Hold, Limits
from roundhouse_gateway.json_body import JsonBodies
from roundhouse_gateway.keyring import Keyring
from roundhouse_gateway.limits import KeyLimits, LocalLimits
from roundhouse_gateway.listener import Door, listening
from roundhouse_gateway.load import LoadBook, LoadReport
from roundhouse_gateway.logs import request_log
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.realtime.door import Switch
from roundhouse_gateway.realtime.hub import Hub
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.routes import Readiness
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.speech.audio_api import TRANSCRIPTIONS, TRANSLATIONS
from roundhouse_gateway.speech.elevenlabs import SpeechToText
from roundhouse_gateway.speech.lane import with_speech
from roundhouse_gateway.speech.route import SpeechRoute
from roundhouse_gateway.spool import Spool
from roundhouse_gateway.stray import on_stray_error
from roundhouse_gateway.text.engines import TextEngines
from roundhouse_gateway.text.lane import MAX_BODY_BYTES, Lane, no_route, takes_lane
from roundhouse_gateway.text.pool import Pool
from roundhouse_gateway.text.serve import ROUTES as TEXT_ROUTES
from roundhouse_gateway.text.serve import TextRoutes
from roundhouse_gateway.tls import certified
from roundhouse_gateway.traces import Tracer
from roundhouse_gateway.upstream import EngineClient
from roundhouse_gateway.workers.member import Member

log = logging.getLogger("roundhouse.gateway")

OF_FORMS: Final = 4
"""Short forms on the fast lane may fill as much as one part in so many of the room of JSON, besides that."""


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
    member: Member | None = None
    """This process among the gateway's workers, where there are several."""

    @classmethod
    def build(cls, settings: Settings, limits: KeyLimits, member: Member | None = None) -> "Gateway":
        registry = Registry(settings.served_namespaces, aliases_enabled=settings.aliases_enabled)
        numbers = member.numbers if member else None
        metrics = Metrics(registry.age_seconds, lambda: len(registry.snapshot.entries), numbers)
        metrics.limits_store_away.set_function(lambda: float(limits.away))
        if member:
            metrics.worker_restarts.set_function(lambda: member.restarts)
        endpoints = Endpoints(registry, metrics)
        watch = Watch()
        engines = EngineClient(settings, metrics, endpoints, watch)
        pool = Pool(settings.connect_timeout_seconds, watch)
        text = TextEngines(settings, metrics, endpoints, engines.load, pool)
        keyring = Keyring() if settings.keys_namespace else None
        access = Credentials(registry)
        whole = member.reason_against if member else None
        readiness = Readiness(registry, keyring, access, whole=whole)
        realtime = Hub(settings, metrics, endpoints, member)
        book = member.book if member else LoadBook()
        seen = (settings, registry, readiness, metrics, engines, text, realtime, book)
        return cls(*seen, keyring, access, limits, member)

    def api(self, tracer: Tracer | None) -> tuple[ASGIApp, Lane | None]:
        """What clients talk to, and the shorter way for most of what they ask as JSON."""
        spool = Spool(self.settings.spool_dir, self.settings.spool_limit_bytes, self.metrics.spool_bytes)
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
            room_bytes=self._json_room_bytes(),
        )
        text = TextRoutes(self.settings, self.registry, self.text, hold, self.metrics, bodies)
        posts: dict[str, ASGIApp] = {**speech, **dict.fromkeys(TEXT_ROUTES, text), **self.realtime.posts()}
        guard = self._guard()
        app = build_api(self.readiness, self.metrics, posts, front(self.settings, guard, tracer))
        switch = Switch(app, self.realtime.door(self.registry, hold, guard(app) if guard else None, tracer))
        if tracer is not None or not takes_lane(self.settings):
            return switch, None
        keys, model = guard(no_route) if guard else None, self.settings.default_model
        lane = Lane(self.registry, self.text, hold, self.metrics, bodies, keys, model)
        most = min(MAX_BODY_BYTES, self.settings.body_limit_bytes)
        forms = BodyRoom(limit_bytes=most, room_bytes=bodies.room_bytes // OF_FORMS)
        return switch, with_speech(lane, forms, self.settings.spool_limit_bytes)

    def _json_room_bytes(self) -> int:
        """This worker's part of the room, in which the longest body has a place in any case."""
        settings = self.settings
        part = settings.json_room_bytes // (self.member.workers if self.member else 1)
        return max(part, min(settings.json_limit_bytes, settings.json_room_bytes))

    def clients(self, tls: SSLContext | None, lane: Lane | None) -> Door:
        """Where clients come in."""
        settings, handed = self.settings, self.member.clients if self.member else None
        return Door(settings.port, settings.drain_seconds, handed, self.metrics.connections, tls, lane)

    def cluster(self) -> Door:
        """Where the cluster looks after the gateway."""
        return Door(self.settings.metrics_port, 1.0, self.member.cluster if self.member else None)

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
        keyring, limits, make_upload = self.keyring, self.limits, uploads(self.settings)
        return lambda app: Guard(app, keyring, limits, lambda: datetime.now(UTC), make_upload)


@asynccontextmanager
async def _counting(settings: Settings, member: Member | None) -> AsyncIterator[KeyLimits]:
    """What counts the limits of keys during the block: alone, with other workers, or with other gateways."""
    url = settings.limits_store_url.get_secret_value()
    if not url:
        yield member.limits() if member else LocalLimits(time.time)
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


async def serve(settings: Settings, make_member: Callable[[], Member] | None = None) -> None:
    """Runs until SIGTERM or SIGINT, and then until what was begun is finished.

    `make_member` is there for one of several workers.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_stray_error)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    member = make_member() if make_member else None
    try:
        async with _counting(settings, member) as limits:
            with tracing(settings.otlp_endpoint) as tracer:
                await _serve(Gateway.build(settings, limits, member), tracer, stop)
    finally:
        request_log.flush()
    log.info("ended")


async def _serve(gateway: Gateway, tracer: Tracer | None, stop: asyncio.Event) -> None:
    settings = gateway.settings
    app, lane = gateway.api(tracer)
    try:
        async with (
            _among_workers(gateway, stop),
            _following(gateway, stop),
            _letting_go(gateway),
            listening(gateway.service(), settings, gateway.cluster()) as service,
            _ending_together(gateway),
            certified(settings.tls_cert_file, settings.tls_key_file) as tls,
            listening(app, settings, gateway.clients(tls, lane)) as api,
        ):
            gc.collect()
            gc.freeze()  # its modules are not looked at in each full pass, which paused requests for it
            if gateway.member:
                gateway.member.up()
            else:
                log.info("listening on %s, metrics on %s", api, service)
            await stop.wait()
            log.info("draining: unready at once, no new connections in %g s", settings.drain_delay_seconds)
            gateway.readiness.draining = True
            if gateway.member:
                gateway.member.drain()
            with suppress(TimeoutError):
                stop.clear()
                await asyncio.wait_for(stop.wait(), settings.drain_delay_seconds)
            if gateway.member:
                await gateway.member.leave()
            gateway.realtime.leave()
    finally:
        gateway.text.close()
        await gateway.engines.close()
        await gateway.realtime.close()


@asynccontextmanager
async def _among_workers(gateway: Gateway, stop: asyncio.Event) -> AsyncIterator[None]:
    """Takes its place among the workers during the block, where there are several."""
    if gateway.member is None:
        yield
        return
    async with gateway.member.working(gateway.readiness.own_reason, stop.set):
        yield


@asynccontextmanager
async def _ending_together(gateway: Gateway) -> AsyncIterator[None]:
    """Ends when other workers that are draining have drained, too."""
    yield
    if gateway.member:
        await gateway.member.others_drained()
        await gateway.member.part()


@asynccontextmanager
async def _letting_go(gateway: Gateway) -> AsyncIterator[None]:
    """Metrics forget models that are gone during the block."""
    looking = asyncio.create_task(Departed(gateway.metrics, time.monotonic).run(gateway.registry))
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


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
