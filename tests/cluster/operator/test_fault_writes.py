"""The operator is killed at every single write of a story in turn; each time the end is the same."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from aiohttp import web

from roundhouse_operator.core.kinds import LEASE
from tests.cluster.local import Cluster
from tests.cluster.operator.apart import Apart
from tests.cluster.operator.harness import Operator
from tests.cluster.operator.nursery import Nursery
from tests.cluster.operator.proxy import Call
from tests.cluster.operator.story import Story

AT_ONCE: Final = 8
"""Runs beside each other."""
WRITES: Final = 46
"""About as many as a run has: these are begun without a look at how many there are."""

When = Literal["before", "after"]


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


def run(apart: Apart, number: int, when: When) -> tuple[list[str], Mapping[str, Any]]:
    """The writes of the first life, and what there was at the end."""
    with apart.stage() as stage:
        operator, api = stage.operator, stage.api
        stage.proxy.rule = assassin = Assassin(operator, number, when)

        def revive() -> None:
            if not operator.alive():
                # The dead one's Lease would be waited for; that is what the tests of the Lease are about.
                if api.get(LEASE, "roundhouse-roundhouse-operator"):
                    api.delete(LEASE, "roundhouse-roundhouse-operator")
                operator.start(until="begun")

        operator.start(until="begun")
        story = Story(api, operator.idle, revive, stage.doing)
        try:
            story.tell()
            return assassin.writes, story.settled()
        except AssertionError as error:
            raise AssertionError(f"killed {when} write {number}: {error}") from error


@pytest.mark.timeout(1200)
def test_killed_at_every_write_it_comes_to_the_same_end(
    control_plane: Cluster, nodes: None, nursery: Nursery, tmp_path: Path
) -> None:
    apart = Apart(control_plane, nursery, tmp_path)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        first = pool.submit(run, apart, 0, "before")
        for begin in itertools.count(1, WRITES):
            numbers = range(begin, begin + WRITES)
            # What is killed after one write is killed before the next: one of them goes by turns.
            whens: list[When] = ["before" if number % 2 else "after" for number in numbers]
            runs = [pool.submit(run, apart, *one) for one in zip(numbers, whens, strict=True)]
            writes, undisturbed = first.result()
            assert len(writes) > 20, writes
            ends = [one.result() for one in runs]
            for number, when, (seen, end) in zip(numbers, whens, ends, strict=True):
                assert end == undisturbed, f"killed {when} write {number}: {seen[-1]}"
            if any(len(seen) < number for number, (seen, _) in zip(numbers, ends, strict=True)):
                break
    print(f"killed at each of {max(len(seen) for seen, _ in ends)} writes")
