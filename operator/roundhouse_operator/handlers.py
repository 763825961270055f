"""kopf's part: it watches the four kinds of the API and calls these handlers.

`on.event` alone: kopf then adds no finalizer, stores nothing in annotations and patches nothing, so it
stands in nobody's way when it is gone. An event without a type says that kopf has listed anew, and that it
may have missed deletions in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Final

import kopf

from roundhouse_api.model import Manifest
from roundhouse_operator.cluster import Credentials
from roundhouse_operator.core.kinds import API_KINDS, Kind

OnEvent = Callable[[Kind, str | None, Manifest], None]
Login = Callable[[], Awaitable[Credentials]]
LOGIN_MINUTES: Final = 10
"""A pod's token lasts an hour or less, and is replaced by then."""


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


async def run_kopf(
    on_event: OnEvent,
    credentials: Login,
    *,
    namespaces: Sequence[str] | None,
    started: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """`namespaces` None: all of them. Runs until `stop` is set."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # transitions are told by `recorder`
    settings.networking.error_backoffs = Backoffs()
    settings.scanning.disabled = True  # needs no right to watch CRDs and namespaces
    await kopf.operator(
        registry=build_registry(on_event, credentials),
        settings=settings,
        standalone=True,  # the Lease elects; peering of equals would freeze both
        identity="roundhouse",  # type: ignore[arg-type]  # kopf's own guess needs the user's name, a pod has none
        clusterwide=namespaces is None,
        namespaces=namespaces or (),
        ready_flag=started,
        stop_flag=stop,
    )
