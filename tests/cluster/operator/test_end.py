"""However an operator is told to end, and whatever it is in the middle of: it ends, soon, without its Lease.

No cluster is needed: an empty API server that misbehaves does.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, cast

import pytest
from aiohttp import web

from roundhouse_api import names
from tests.cluster.local import Cluster
from tests.cluster.operator.empty_api_server import EmptyApiServer, broken_watch, passing
from tests.cluster.operator.harness import Operator
from tests.cluster.operator.nursery import Nursery
from tests.support.waiting import wait_until

MOMENTS: Final = 12
AT_ONCE: Final = 4
LONGEST_SECONDS: Final = 18.0
"""Most take a twentieth of a second; the machine may be busy."""


class NoCluster:
    """What an operator needs of one here."""

    environment: dict[str, str]

    def __init__(self) -> None:
        self.environment = {}


def operator_of(server: EmptyApiServer, log: Path, **options: Any) -> Operator:
    one = Operator(cast("Cluster", NoCluster()), "test", log, **options)
    one.environment["KUBECONFIG"] = str(server.write_kubeconfig(log.with_suffix(".kubeconfig")))
    return one


def watches_an_api_kind(request: web.Request) -> bool:
    return "watch" in request.query and "/roundhouse.dev/" in request.path


@pytest.mark.parametrize("code", [403, 500])
def test_a_watch_that_breaks_leaves_nothing_behind(nursery: Nursery, tmp_path: Path, code: int) -> None:
    """One watch breaks, again and again; those beside it go on in kopf's new life, not in the old."""
    broken = 0

    async def break_one(request: web.Request) -> web.StreamResponse | None:
        nonlocal broken
        if not (watches_an_api_kind(request) and request.path.endswith("/engines") and broken < 3):
            return None
        broken += 1
        await asyncio.sleep(0.2)  # until those beside it have begun
        return broken_watch(code, "Broken")

    with EmptyApiServer() as server:
        operator = operator_of(server, tmp_path / "operator.log", spawn=nursery.spawn).start()
        wait_until(lambda: server.watching() == 4, seconds=60, what="kopf watches", every=0.05)
        tasks = operator.metric("roundhouse_operator_tasks")
        assert tasks
        server.rule = break_one
        server.cut_watches()
        wait_until(
            lambda: broken == 3 and server.watching() == 4, seconds=60, what="kopf watches again", every=0.05
        )
        wait_until(
            lambda: (operator.metric("roundhouse_operator_tasks") or 0) <= tasks + 1,
            seconds=30,
            what=f"there are as few tasks as before, {tasks}",
            every=0.1,
        )
        assert operator.stop() == 0
        assert server.holder() == ""
        assert "left behind" not in operator.log.read_text()


def test_a_watch_that_is_open_again_is_followed_before_there_is_news(
    nursery: Nursery, tmp_path: Path
) -> None:
    async def no_deployments(request: web.Request) -> web.StreamResponse | None:
        away = "watch" in request.query and request.path.endswith("/deployments")
        return web.Response(text="away", status=503) if away else None

    with EmptyApiServer() as server:
        operator = operator_of(server, tmp_path / "operator.log", spawn=nursery.spawn).start()
        wait_until(lambda: server.watching() == 4, seconds=60, what="kopf watches", every=0.05)
        server.rule = no_deployments
        server.cut_watches()
        wait_until(
            lambda: "cannot follow deployments" in operator.get("/readyz")[1],
            seconds=60,
            what="it says what it cannot follow",
            every=0.1,
        )
        server.rule = passing
        wait_until(lambda: operator.get("/readyz")[0] == 200, seconds=60, what="it is ready", every=0.1)
        assert operator.stop() == 0


def test_who_loses_the_lease_of_a_slow_api_server_contends_anew(nursery: Nursery, tmp_path: Path) -> None:
    """In the same process: the kubelet would start one that ended ever later."""

    async def too_slow(request: web.Request) -> web.StreamResponse | None:
        if "/leases" in request.path:
            await asyncio.sleep(60)
        return None

    with EmptyApiServer() as server:
        operator = operator_of(server, tmp_path / "operator.log", spawn=nursery.spawn)
        operator.environment["ROUNDHOUSE_OPERATOR_LEASE_SECONDS"] = "5"
        operator.start()
        lost = "Leadership lost, not renewed for"
        server.rule = too_slow
        wait_until(
            lambda: lost in operator.log.read_text(), seconds=60, what="it has lost the Lease", every=0.1
        )
        server.rule = passing
        wait_until(
            lambda: (operator.metric("roundhouse_operator_leader") or 0) == 1 and server.watching() == 4,
            seconds=120,
            what="it leads again, and watches",
            every=0.1,
        )
        assert operator.stop() == 0
        assert "left behind" not in operator.log.read_text()


def test_a_definition_that_was_deleted_and_is_there_again_is_followed_again(
    nursery: Nursery, tmp_path: Path
) -> None:
    async def no_engines(request: web.Request) -> web.StreamResponse | None:
        if request.path.endswith("/engines"):
            return web.Response(text="404 page not found", status=404)
        if request.path == f"/apis/{names.API_VERSION}":
            return web.json_response({"resources": []})
        return None

    with EmptyApiServer() as server:
        operator = operator_of(server, tmp_path / "operator.log", spawn=nursery.spawn).start()
        wait_until(lambda: server.watching() == 4, seconds=60, what="kopf watches", every=0.05)
        server.rule = no_engines
        server.cut_watches()
        wait_until(
            lambda: "cannot follow the API's kinds" in operator.get("/readyz")[1],
            seconds=60,
            what="it says that a kind is not there",
            every=0.1,
        )
        wait_until(lambda: server.watching() == 0, seconds=60, what="kopf has ended", every=0.05)
        server.rule = passing
        wait_until(lambda: server.watching() == 4, seconds=120, what="kopf watches all again", every=0.1)
        assert "cannot follow the API's kinds" not in operator.get("/readyz")[1]
        assert operator.stop() == 0


def test_it_ends_at_any_moment_of_a_new_beginning(nursery: Nursery, tmp_path: Path) -> None:
    def told_to_end_after(seconds: float) -> float:
        broken: Counter[str] = Counter()

        async def break_each(request: web.Request) -> web.StreamResponse | None:
            if not watches_an_api_kind(request) or broken[request.path] > 1:
                return None
            broken[request.path] += 1
            await asyncio.sleep(seconds % 0.3)
            return broken_watch(403, "Forbidden")

        with EmptyApiServer(rule=break_each) as server:
            operator = operator_of(server, tmp_path / f"{seconds}.log", spawn=nursery.spawn).start()
            time.sleep(seconds)
            began = time.monotonic()
            operator.stop()
            said = operator.log.read_text()
            assert server.holder() == "" or re.search("(?i)leadership ?lost", said), said
            return time.monotonic() - began

    chance = random.Random(11)  # noqa: S311  # the same moments each time
    moments = [chance.uniform(0, 4) for _ in range(MOMENTS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        took = dict(zip(moments, pool.map(told_to_end_after, moments), strict=True))
    assert max(took.values()) < LONGEST_SECONDS, took


def test_an_api_server_that_falls_silent_holds_up_no_end(tmp_path: Path) -> None:
    async def say_nothing(_: web.Request) -> web.StreamResponse | None:
        await asyncio.Event().wait()
        return None

    with EmptyApiServer() as server:
        operator = operator_of(server, tmp_path / "operator.log").start()
        server.rule = say_nothing
        began = time.monotonic()
        assert operator.stop() == 0, operator.log.read_text()
        assert time.monotonic() - began < LONGEST_SECONDS
        assert "The Lease ends by itself" in operator.log.read_text()
