"""The probes over HTTP: what makes the operator unhealthy, and what only makes it unready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from roundhouse_operator import health
from roundhouse_operator.core.kinds import NODE
from roundhouse_operator.errors import RefusedError, UnreachableError
from roundhouse_operator.health import SILENT_SECONDS, Health
from roundhouse_operator.leader import LeadershipLostError
from roundhouse_operator.metrics import Metrics
from roundhouse_operator.queue import WorkQueue
from roundhouse_operator.runtime import Operator
from roundhouse_operator.settings import Settings
from roundhouse_operator.watch import Scope, Source
from tests.support.ports import free_port
from tests.support.waiting import eventually

Probe = Callable[[str], Awaitable[tuple[int, str]]]


def nodes() -> Source:
    """Followed, and heard of just now."""
    cluster: Any = None  # nothing is asked of it
    source = Source(cluster, Scope(NODE, None), lambda *_: None, lambda *_: None, lambda: None)
    source.listed.set()
    source.heard()
    return source


@asynccontextmanager
async def probes(one: Health) -> AsyncIterator[Probe]:
    """Called with a path; its status and what it says."""
    port = free_port()
    serving = asyncio.create_task(one.serve(port))
    async with aiohttp.ClientSession() as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                return response.status, "; ".join((await response.json())["problems"])

        async def answers() -> bool:
            try:
                await get("/healthz")
            except aiohttp.ClientConnectionError:
                return False
            return True

        await eventually(answers, seconds=10, what="it listens", every=0.01)
        try:
            yield get
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def test_a_pass_that_does_not_end_is_unhealthy_on_the_leader_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "STUCK_SECONDS", 0.01)
    queue: WorkQueue[str] = WorkQueue()
    hanging = asyncio.Event()

    async def hang(_key: str) -> None:
        await hanging.wait()

    working = asyncio.create_task(queue.run(hang, workers=1))
    queue.add("kws-en")
    async with probes(one := Health(Metrics(), queue, [nodes()], leading=True)) as get:

        async def unhealthy() -> bool:
            status, said = await get("/healthz")
            return status == 503 and "no pass has ended for" in said

        await eventually(unhealthy, seconds=10, what="it is told", every=0.01)
        assert (await get("/readyz"))[0] == 503
        one.leading = False
        assert await get("/healthz") == (200, "")
        one.leading = True
        hanging.set()

        async def healthy() -> bool:
            return (await get("/healthz"))[0] == 200

        await eventually(healthy, seconds=10, what="it is over", every=0.01)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_a_watch_that_nobody_tries_any_more_is_unhealthy() -> None:
    source = nodes()
    async with probes(Health(Metrics(), WorkQueue(), [source])) as get:
        assert await get("/healthz") == await get("/readyz") == (200, "")
        source.alive_at -= SILENT_SECONDS + 1
        status, said = await get("/healthz")
        assert status == 503
        assert said.startswith("nothing was heard of nodes of all namespaces")


async def test_an_api_server_that_is_away_makes_it_unready_and_never_unhealthy() -> None:
    source = nodes()
    async with probes(one := Health(Metrics(), WorkQueue(), [source])) as get:
        trying = asyncio.create_task(source.back_off(UnreachableError("connection refused")))

        async def unready() -> bool:
            return (await get("/readyz"))[0] == 503

        await eventually(unready, seconds=10, what="it is unready", every=0.01)
        assert (await get("/readyz"))[1] == "cannot follow nodes of all namespaces: connection refused"
        assert await get("/healthz") == (200, "")
        trying.cancel()
        source.heard()
        one.broken = "kopf ended"
        assert await get("/readyz") == (503, "cannot follow the API's kinds: kopf ended")
        one.broken = None
        source.listed.clear()
        assert await get("/readyz") == (503, "nodes of all namespaces are not listed yet")
        assert await get("/healthz") == (200, "")


class Forbidding:
    """An API server that lets nobody see EndpointSlices."""

    def pages(self, *_: object) -> AsyncIterator[None]:
        raise RefusedError(403, "Forbidden", "endpointslices are forbidden")


async def test_who_leads_and_cannot_follow_the_gateways_is_unready() -> None:
    cluster: Any = Forbidding()
    operator = Operator(Settings(namespace="speech"), cluster, Metrics(), "")
    for source in operator.health.sources:
        source.listed.set()
    assert list(operator.health.lacks()) == []
    operator.election = cast("Any", SimpleNamespace(acquire=_at_once, hold=_at_once))
    leading = asyncio.create_task(operator._lead())

    async def told() -> bool:
        return any("forbidden" in one for one in operator.health.lacks())

    await eventually(told, seconds=10, what="it is told", every=0.01)
    [lack] = operator.health.lacks()
    assert lack.startswith("cannot follow endpointslices of speech: ")
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)


async def _at_once() -> None:
    """A Lease that nobody else wants."""


async def test_a_lost_lease_is_told_as_such_whatever_else_fails_on_the_way_out() -> None:
    cluster: Any = Forbidding()
    operator = Operator(Settings(namespace="speech"), cluster, Metrics(), "")
    for source in operator.health.sources:
        source.listed.set()
    operator.election = cast("Any", SimpleNamespace(acquire=_at_once, hold=_lost))
    operator.recorder = cast("Any", SimpleNamespace(run=_fails_when_it_is_ended))
    with pytest.raises(LeadershipLostError, match="not renewed for 7 s"):
        await operator._lead()
    assert not operator.health.leading


async def _lost() -> None:
    await asyncio.sleep(0)  # the others begin
    raise LeadershipLostError("not renewed for 7 s")


async def _fails_when_it_is_ended() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ConnectionResetError("the API server is gone")
