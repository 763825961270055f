"""kopf's part: it watches the four kinds of the API and calls these handlers.

`on.event` alone: kopf then adds no finalizer, stores nothing in annotations and patches nothing, so it
stands in nobody's way when it is gone. An event without a type says that kopf has listed anew, and that it
may have missed deletions in between. What kopf does for other kinds of handlers (comparing each object with
what it was, a memory of each) is turned off, and where kopf gives up, its tasks are ended and it is started
again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any, Final

import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory
from typing_extensions import override

from roundhouse_api.model import Manifest
from roundhouse_operator.cluster import PAGE
from roundhouse_operator.configuration import Credentials
from roundhouse_operator.core.kinds import API_KINDS, Kind
from roundhouse_operator.ending import end

OnEvent = Callable[[Kind, str | None, Manifest], None]
Login = Callable[[], Awaitable[Credentials]]
LOGIN_MINUTES: Final = 10
"""A pod's token lasts an hour or less, and is replaced by then."""
IDLE_SECONDS: Final = 0.05
"""kopf keeps a task for each object that changed; after the default of 5 s a listing has 10,000 of them."""
FIRST_PAUSE_SECONDS: Final = 1.0
LAST_PAUSE_SECONDS: Final = 30.0
UNSERVED_SECONDS: Final = 5.0
"""Between looks whether all kinds are served: one whose definition was deleted, say."""
END_SECONDS: Final = 2.5
"""For tasks of kopf to end: some finish what they have, for up to two seconds."""
_FORGOTTEN: Final = ("watcher for ", "stop-flag waiter")
"""Tasks that kopf does not end where a watch fails, as it names them."""

logger = logging.getLogger(__name__)


class Backoffs:
    """Seconds between attempts, without end: kopf's own would end the operator after a minute's outage."""

    def __iter__(self) -> Iterator[float]:
        return chain((1.0, 1.0, 2.0, 3.0, 5.0), repeat(8.0))


def build_registry(on_event: OnEvent, credentials: Login) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    _log_in(registry, credentials)
    for kind in API_KINDS:
        _watch(registry, kind, on_event)
    return registry


def _watch(registry: kopf.OperatorRegistry, kind: Kind, on_event: OnEvent) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=f"watch-{kind.plural}")
    async def changed(event: kopf.RawEvent, **_: object) -> None:
        on_event(kind, event["type"], dict(event["object"]))


def _log_in(registry: kopf.OperatorRegistry, credentials: Login) -> None:
    """The same configuration as everywhere else, instead of kopf's own search for one."""

    @kopf.on.login(registry=registry, id="log-in")
    async def log_in(**_: object) -> kopf.ConnectionInfo:
        found = await credentials()
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_file,
            certificate_path=found.certificate_file,
            private_key_path=found.key_file,
            insecure=found.insecure,
            scheme=found.scheme,
            token=found.token,
            expiration=datetime.now(UTC) + timedelta(minutes=LOGIN_MINUTES) if found.token else None,
        )


class _NoMemories(ResourceMemories):
    """kopf's own keep a kilobyte for each object, and for ever of one whose deletion a broken watch hid."""

    @override
    async def recall(self, *arguments: Any, **options: Any) -> ResourceMemory:
        return await super().recall(*arguments, **{**options, "ephemeral": True})


class _NoEssence(kopf.DiffBaseStorage):
    """Nothing is compared: a pass looks at the whole."""

    @override
    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    @override
    def fetch(self, **_: Any) -> None:
        return None

    @override
    def store(self, **_: Any) -> None:
        """Nothing is kept."""


def kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # transitions are told by `recorder`
    settings.networking.error_backoffs = Backoffs()
    settings.scanning.disabled = True  # needs no right to watch CRDs and namespaces
    settings.watching.chunk_size = PAGE
    settings.queueing.idle_timeout = IDLE_SECONDS
    settings.persistence.diffbase_storage = _NoEssence()
    settings.process.ultimate_exiting_timeout = None  # else kopf kills the process after it has failed
    return settings


@dataclass(frozen=True, slots=True)
class ApiWatch:
    """kopf, kept running. `namespaces` None: all of them. Each start and each failure is told.

    `served` says whether the API server knows all kinds: kopf looks for them once, when it starts, and never
    follows one that is not there then.
    """

    on_event: OnEvent
    served: Callable[[], Awaitable[bool]]
    credentials: Login
    namespaces: Sequence[str] | None
    on_start: Callable[[], None]
    on_end: Callable[[str], None]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. kopf ends at every error of a watch but 410: it begins anew, and lists."""
        pause = FIRST_PAUSE_SECONDS
        while not stop.is_set():
            began = asyncio.get_running_loop().time()
            try:
                await self._run_kopf(stop)
            except Exception as error:  # noqa: BLE001  # whatever it is, the others of this process go on
                logger.warning(
                    "The watch of the API's kinds broke, it begins anew: %r",
                    error,
                    extra={"reason": "WatchBroken"},
                )
                self.on_end(repr(error))
            if asyncio.get_running_loop().time() - began > LAST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):  # wait_for of Python 3.11 loses a cancellation at times
                    await stop.wait()
            pause = min(2 * pause, LAST_PAUSE_SECONDS)

    async def _all_served(self, stop: asyncio.Event) -> bool:
        """False where it is to stop first."""
        while not stop.is_set():
            if await self.served():
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(UNSERVED_SECONDS):
                    await stop.wait()
        return False

    async def _run_kopf(self, stop: asyncio.Event) -> None:
        if not await self._all_served(stop):
            return
        tasks = await kopf.spawn_tasks(
            registry=build_registry(self.on_event, self.credentials),
            settings=kopf_settings(),
            memories=_NoMemories(),
            standalone=True,  # the Lease elects; peering of equals would freeze both
            identity="roundhouse",  # type: ignore[arg-type]  # its own guess needs the user's name, a pod has none
            clusterwide=self.namespaces is None,
            namespaces=self.namespaces or (),
            stop_flag=stop,
        )
        self.on_start()
        # Not kopf's own `run_tasks`: it waits without end, and for other people's tasks too.
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # A watch that fails ends kopf but not the watches beside it. They go first: once the
            # credentials are gone they wait for new ones, and no cancellation reaches them there.
            await end(_forgotten(), END_SECONDS)
            await end(tasks, END_SECONDS)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()


def _forgotten() -> list[asyncio.Task[Any]]:
    """The tasks that each of these has for itself end with it, and only so."""
    return [one for one in asyncio.all_tasks() if one.get_name().startswith(_FORGOTTEN)]
