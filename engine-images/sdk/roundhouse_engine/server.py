"""The process: reads the settings, listens, keeps the slots alive, and drains on SIGTERM before it leaves.

It exits with 0 after a drain and with 1 when it cannot serve what it was told to; the last line of its output
then says why.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

import uvicorn
import uvloop
from starlette.types import ASGIApp
from typing_extensions import override

from roundhouse_engine.admin import build_admin
from roundhouse_engine.app import build_app
from roundhouse_engine.authoring import HandlerError, check_handler
from roundhouse_engine.batching import Batcher
from roundhouse_engine.connection import Connection
from roundhouse_engine.door import Door, expose
from roundhouse_engine.fleet import Fleet
from roundhouse_engine.handler import Handler, Isolation, ModelSpec
from roundhouse_engine.handlers import reference
from roundhouse_engine.logs import configure
from roundhouse_engine.memory import Memory
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.models_file import Given, ModelsFile
from roundhouse_engine.orphans import adopt
from roundhouse_engine.pool import Pool
from roundhouse_engine.process_runner import Launch, Processes
from roundhouse_engine.runners import Runner
from roundhouse_engine.session_socket import websockets
from roundhouse_engine.settings import ADMIN_TOKEN, Settings, SettingsError, read_settings
from roundhouse_engine.slot import Slot
from roundhouse_engine.text import Batched

logger = logging.getLogger(__name__)

# Routers learn within moments that a pod is leaving; until then they must find somebody who says so.
_LINGER_SECONDS: Final = 1.0
# Longer than gateways keep idle connections, so that none is closed just as it is used again.
_KEEP_ALIVE_SECONDS: Final = 120
_FLUSH_SECONDS: Final = 2
_STALL_SAMPLE_SECONDS: Final = 0.25


def main(handler: type[Handler]) -> NoReturn:
    """Run the engine as the environment says. Never returns."""
    try:
        check_handler(handler)
        settings = read_settings(os.environ, handler)
        os.environ.pop(ADMIN_TOKEN, None)  # no process of a handler's is to have it
        listener, admin = _listeners(settings)
    except (HandlerError, SettingsError) as error:
        sys.exit(f"roundhouse engine: {error}")
    configure(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        failure = runner.run(_run(handler, settings, listener, admin))
    sys.exit(f"roundhouse engine: {failure}" if failure else 0)


def build_door(handler: type[Handler], settings: Settings, metrics: Metrics) -> Door:
    """Where requests are admitted and computed; nothing of it is started yet."""
    file = settings.models_file
    if file is None and settings.memory_budget_bytes is None and not settings.admin_token:
        return build_pool(handler, settings.models, settings, metrics)
    source = Given(settings.models) if file is None else ModelsFile(file, handler)
    memory = Memory(settings.memory_budget_bytes)
    if handler.shelf is not None:
        handler.shelf.count_in(memory, asyncio.get_running_loop(), settings.memory_wait_seconds)
    return Fleet(
        source, lambda model: build_pool(handler, (model,), settings, metrics), metrics, settings, memory
    )


def build_pool(
    handler: type[Handler], models: tuple[ModelSpec, ...], settings: Settings, metrics: Metrics
) -> Pool:
    """The handler's slots, each of which serves all of the models."""
    names = tuple(model.name for model in models)
    release: Callable[[], None] | None = None
    computing = 1 if issubclass(handler, Batched) else settings.capacity
    if handler.isolation is Isolation.PROCESS:
        places = computing + settings.sessions if handler.thread_safe else 1
        launch = Launch(reference(handler), models, places, settings.log_level, settings.log_format)
        start: Callable[[], Runner] = Processes(launch, metrics, shared=handler.thread_safe).runner
    else:
        # Decoding comes with this import; where children decode, the server does without.
        from roundhouse_engine.thread_runner import SharedHandlers, ThreadRunner  # noqa: PLC0415

        shared = SharedHandlers(handler, models)
        release = shared.unload

        def start() -> Runner:
            return ThreadRunner(shared)

    def slots(count: int) -> list[Slot]:
        return [Slot(start, handler.cancel_seconds, metrics) for _ in range(count)]

    sessions = Pool(slots(settings.sessions), metrics, names) if settings.sessions else None
    pool = Pool(
        slots(computing),
        metrics,
        names,
        separate=handler.isolation is Isolation.PROCESS and not handler.thread_safe,
        sessions=sessions,
    )
    if issubclass(handler, Batched):
        pool.together = settings.capacity
        pool.batcher = Batcher(pool, handler.batch_items, handler.batch_tokens, metrics)
    if release is not None:
        pool.release = release
    return pool


async def _run(
    handler: type[Handler], settings: Settings, listener: socket.socket, admin: socket.socket | None
) -> str | None:
    """Serve until drained; returns why it could not, or None."""
    metrics = Metrics()
    door = build_door(handler, settings, metrics)
    expose(door, metrics)
    server = _server(build_app(handler, settings, door, metrics))
    leave = _leave_on_signal(server)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    administering = asyncio.create_task(_administer(handler, settings, door, admin))
    supervising = asyncio.create_task(door.supervise())
    leaving = asyncio.create_task(_drained(leave, door, settings.drain_seconds))
    sampling = asyncio.create_task(_sample_stalls(metrics))
    adopting = asyncio.create_task(adopt())
    told = {"port": listener.getsockname()[1], "slots": door.slots, "sessions": settings.sessions}
    if admin is not None:
        told["admin_port"] = admin.getsockname()[1]
    logger.info("listening", extra=told)
    try:
        done, _ = await asyncio.wait({serving, supervising, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return supervising.result() if supervising in done else None
    finally:
        server.should_exit = True
        await serving
        tasks = (supervising, leaving, sampling, administering, adopting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if handler.shelf is not None:
            handler.shelf.clear()


async def _administer(
    handler: type[Handler], settings: Settings, door: Door, listener: socket.socket | None
) -> None:
    """Lets the list of models be replaced, where a token says who may."""
    if listener is not None and isinstance(door, Fleet):
        await _server(build_admin(handler, settings, door)).serve(sockets=[listener])


def _server(app: ASGIApp) -> "_Server":
    config = uvicorn.Config(
        app,
        http=Connection,
        **websockets(),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_FLUSH_SECONDS,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Leaves signals alone: uvicorn would close the listener at once, and a drain still answers."""

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _leave_on_signal(server: uvicorn.Server) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second one ends the server without waiting."""
    leave = asyncio.Event()

    def on_signal() -> None:
        if leave.is_set():
            server.should_exit = True
        leave.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return leave


async def _drained(leave: asyncio.Event, door: Door, deadline_seconds: float) -> None:
    """Returns when the engine may stop listening: asked to leave, and its work done or out of time."""
    await leave.wait()
    logger.info("draining", extra={"in_use": door.in_use})
    door.draining = True
    begun = time.monotonic()
    try:
        async with asyncio.timeout(deadline_seconds):
            await door.drained()
    except TimeoutError:
        told = {"in_use": door.in_use, "sessions": door.sessions_in_use}
        logger.warning("drain deadline passed", extra=told)
        door.evict()
    await asyncio.sleep(max(min(_LINGER_SECONDS, deadline_seconds) - (time.monotonic() - begun), 0))


async def _sample_stalls(metrics: Metrics) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _STALL_SAMPLE_SECONDS
        await asyncio.sleep(_STALL_SAMPLE_SECONDS)
        metrics.loop_stall_seconds.observe(max(loop.time() - due, 0.0))


def _listeners(settings: Settings) -> tuple[socket.socket, socket.socket | None]:
    """For requests, and for whoever may replace the list of models."""
    listener = _listen(settings.host, settings.port, "ROUNDHOUSE_PORT")
    if not settings.admin_token:
        return listener, None
    try:
        return listener, _listen(settings.host, settings.admin_port, "ROUNDHOUSE_ADMIN_PORT")
    except SettingsError:
        listener.close()
        raise


def _listen(host: str, port: int, variable: str) -> socket.socket:
    """A listening socket: both address families, unless the settings name a host."""
    address = (host, port)
    try:
        if not host and socket.has_dualstack_ipv6():
            return socket.create_server(address, family=socket.AF_INET6, backlog=2048, dualstack_ipv6=True)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        raise SettingsError(
            f"Cannot listen on {host or 'every address'!r}, port {port}: {error.strerror}. "
            f"Set {variable} to a free port."
        ) from error
