"""The operator is killed at every single write of a story in turn; each time the end is the same."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from aiohttp import web

from roundhouse_operator.core.kinds import LEASE
from tests.cluster.local import Cluster
from tests.cluster.operator.api import Api
from tests.cluster.operator.harness import Operator
from tests.cluster.operator.nursery import Nursery
from tests.cluster.operator.proxy import Call, Proxy, proxied
from tests.cluster.operator.story import Story

AT_ONCE: Final = 5
"""Runs beside each other, each in its namespace with an operator and a proxy of its own."""

When = Literal["before", "after"]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    one = Nursery()
    yield one
    one.close()


@dataclass
class Assassin:
    """Kills the operator before or after its `number`-th write is taken; renewals do not count."""

    operator: Operator
    number: int
    when: When
    writes: list[str] = field(default_factory=list)
    done: bool = False

    async def __call__(self, call: Call) -> web.StreamResponse:
        if self.done or not call.writes or (call.of_lease and call.method == "PUT"):
            return await call.forward()
        self.writes.append(f"{call.method} {call.path}")
        if len(self.writes) != self.number:
            return await call.forward()
        self.done = True
        if self.when == "before":
            self.operator.kill()
            raise web.HTTPServiceUnavailable
        answer = await call.forward()
        self.operator.kill()
        return answer


@dataclass
class Run:
    cluster: Cluster
    nursery: Nursery
    folder: Path

    def __call__(self, number: int, when: When) -> tuple[list[str], Mapping[str, Any]]:
        """The writes of the first life, and what there was at the end."""
        namespace = f"test-{secrets.token_hex(4)}"
        self.cluster.kubectl("create", "namespace", namespace)
        self.cluster.wait_for_service_account(namespace)
        with proxied(self.cluster.kubeconfig) as proxy:
            try:
                return self._told(proxy, namespace, number, when)
            finally:
                self.cluster.kubectl("delete", "namespace", namespace, "--wait=false")

    def _told(
        self, proxy: Proxy, namespace: str, number: int, when: When
    ) -> tuple[list[str], Mapping[str, Any]]:
        api = Api(proxy.url, namespace)
        operator = Operator(
            self.cluster, namespace, self.folder / f"{namespace}.log", spawn=self.nursery.spawn
        )
        operator.environment["KUBECONFIG"] = str(
            proxy.write_kubeconfig(self.folder / f"{namespace}.kubeconfig")
        )
        assassin = Assassin(operator, number, when)
        proxy.rule = assassin

        def revive() -> None:
            if not operator.alive():
                # The dead one's Lease would be waited for; that is what the tests of the Lease are about.
                if api.get(LEASE, "roundhouse-roundhouse-operator"):
                    api.delete(LEASE, "roundhouse-roundhouse-operator")
                operator.start(until="begun")

        operator.start(until="begun")
        story = Story(api, operator.idle, revive, lambda: f"{operator.alive()=} {operator.gauges()}")
        try:
            story.tell()
            end = story.settled()
        except AssertionError as error:
            raise AssertionError(
                f"killed {when} write {number}: {error}\n{operator.log.read_text()[-4000:]}"
            ) from error
        finally:
            if operator.alive():
                operator.stop()
        return assassin.writes, end


@pytest.mark.timeout(1200)
def test_killed_at_every_write_it_comes_to_the_same_end(
    control_plane: Cluster, nodes: None, nursery: Nursery, tmp_path: Path
) -> None:
    run = Run(control_plane, nursery, tmp_path)
    writes, undisturbed = run(0, "before")
    assert len(writes) > 20, writes
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in itertools.count(1, AT_ONCE):
            numbers = range(first, first + AT_ONCE)
            # What is killed after one write is killed before the next: one of them goes by turns.
            wanted = [(number, "before" if number % 2 else "after") for number in numbers]
            ends = list(pool.map(lambda one: run(*one), wanted))
            for (number, when), (seen, end) in zip(wanted, ends, strict=True):
                assert end == undisturbed, f"killed {when} write {number}: {seen[-1]}"
            if any(len(seen) < number for number, (seen, _) in zip(numbers, ends, strict=True)):
                break
    print(f"killed at each of {numbers[-1]} writes")
