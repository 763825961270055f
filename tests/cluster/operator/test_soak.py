"""Variants, engines and nodes come, change and go for a long time: memory stays flat, and nothing is missed.

`SOAK_SECONDS` says how long (default 120). The last third of the time is compared with the middle one:
after a warm-up, a process that keeps a little of each object that is gone grows with the time.

Connections that fall silent are given up after minutes: that is waited for beside the churn.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from roundhouse_operator.core.kinds import CHILD_KINDS, DEPLOYMENT, ENGINE, POD, VARIANT
from tests.cluster.local import Cluster, FakeNode
from tests.cluster.operator.apart import Apart
from tests.cluster.operator.api import Api
from tests.cluster.operator.harness import Operator
from tests.cluster.operator.nursery import Nursery
from tests.cluster.operator.proxy import Proxy, proxied
from tests.cluster.operator.story import Story
from tests.support.waiting import wait_until
from tests.unit.operator.samples import engine, variant

SECONDS: Final = float(os.environ.get("SOAK_SECONDS", "120"))
ENGINES: Final = 4
VARIANTS: Final = 24
"""As many as there are at once; each is edited and replaced again and again."""
CUT_EVERY_SECONDS: Final = 20.0
GROWTH_MIB: Final = 4.0
"""By which the median of the last third may be above that of the middle third: less than noise."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the operator says of itself."""

    mib: float
    tasks: float
    fds: float

    @classmethod
    def of(cls, operator: Operator) -> Reading:
        assert operator.alive_or_log()
        text = operator.get("/metrics")[1]

        def value(name: str) -> float:
            found = re.search(rf"^{name} ([0-9.e+-]+)$", text, re.MULTILINE)
            assert found, f"{name} is not told: {text[:300]}"
            return float(found[1])

        return cls(
            value("process_resident_memory_bytes") / (1 << 20),
            value("roundhouse_operator_tasks"),
            value("process_open_fds"),
        )


@dataclass
class Churn:
    """Who is there and how it is wanted; `step` changes one thing."""

    api: Api
    chance: random.Random
    wanted: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Replicas and engine of each variant."""
    images: dict[str, str] = field(default_factory=dict)
    made: int = 0
    steps: int = 0

    def begin(self) -> None:
        for number in range(ENGINES):
            self.edit_engine(f"engine-{number}")
        for _ in range(VARIANTS):
            self.make()

    def step(self) -> None:
        self.steps += 1
        act = self.chance.choices((self.replace, self.edit, self.edit_any_engine), (3, 6, 1))[0]
        act()

    def make(self) -> None:
        self.made += 1
        name, on = f"v{self.made}", f"engine-{self.chance.randrange(ENGINES)}"
        self.wanted[name] = (on, 1)
        self.api.apply(
            VARIANT, variant(name, on=on, aliases=[f"alias-{self.made}"], rollout={"maxConcurrent": 8})
        )

    def replace(self) -> None:
        name = self.chance.choice(sorted(self.wanted))
        del self.wanted[name]
        self.api.delete(VARIANT, name)
        self.make()

    def edit(self) -> None:
        name = self.chance.choice(sorted(self.wanted))
        on, _ = self.wanted[name]
        replicas = self.chance.choice((0, 1, 2))
        self.wanted[name] = (on, replicas)
        self.api.patch(VARIANT, name, {"spec": {"replicas": replicas, "description": f"{self.steps}"}})

    def edit_any_engine(self) -> None:
        self.edit_engine(f"engine-{self.chance.randrange(ENGINES)}")

    def edit_engine(self, name: str) -> None:
        self.images[name] = f"example.org/{name}:{self.steps}"
        self.api.apply(ENGINE, engine(name, workload={"image": self.images[name]}))

    def reached(self) -> bool:
        """Whether what is there is what is wanted, neither more nor less."""
        for kind in CHILD_KINDS:
            there = {one["metadata"]["name"] for one in self.api.list(kind, "roundhouse.dev/managed=true")}
            missing = set(self.wanted) - there if kind == DEPLOYMENT else set()
            if missing or there - set(self.wanted):
                return False
        found = {one["metadata"]["name"]: one["spec"] for one in self.api.list(DEPLOYMENT)}
        return all(
            found[name]["replicas"] == replicas
            and found[name]["template"]["spec"]["containers"][0]["image"] == self.images[on]
            for name, (on, replicas) in self.wanted.items()
        )

    def is_told(self) -> bool:
        """Whether each status is about the newest spec, and says that it is served or asleep."""
        for one in self.api.list(VARIANT):
            status = one.get("status", {})
            said = {each["type"]: each["status"] for each in status.get("conditions", ())}
            ready = "True" if self.wanted[one["metadata"]["name"]][1] else said.get("Ready")
            if status.get("observedGeneration") != one["metadata"]["generation"]:
                return False
            if said.get("Ready") != ready or said.get("UpToDate") != "True":
                return False
        return True


@pytest.fixture
def proxy(control_plane: Cluster, nodes: None) -> Iterator[Proxy]:
    with proxied(control_plane.kubeconfig) as one:
        yield one


@pytest.fixture(scope="module")
def silence(
    control_plane: Cluster, nodes: None, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[None]]:
    """Begun before the churn: what becomes of an operator whose watches fall silent."""
    apart = Apart(control_plane, nursery, tmp_path_factory.mktemp("silence"))

    def fall_silent() -> None:
        with apart.stage() as stage:
            operator, api = stage.operator.start(), stage.api
            story = Story(api, operator.idle, doing=stage.doing)
            api.apply(ENGINE, engine())
            api.apply(VARIANT, variant())
            story.until(lambda: story.is_served("kws-en"), "it is served")
            assert stage.proxy.strand_watches() >= 4
            api.apply(VARIANT, variant("second", servedName="second"))
            wait_until(lambda: story.is_served("second"), seconds=240, what="it is seen", every=1)
            assert operator.alive_or_log()

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(fall_silent)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 900)
def test_churn_leaves_nothing_behind(
    control_plane: Cluster, silence: Future[None], namespace: str, proxy: Proxy, tmp_path: Path
) -> None:
    operator = Operator(control_plane, namespace, tmp_path / "operator.log")
    operator.environment["KUBECONFIG"] = str(proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    operator.start()
    churn = Churn(Api(proxy.url, namespace), random.Random(7))  # noqa: S311  # the same churn each time
    try:
        churn.begin()
        readings = list(_readings(control_plane, operator, churn, proxy))
        story = Story(churn.api, operator.idle, operator.alive_or_log)
        story.until(churn.reached, "every variant is as it is wanted")
        story.until(churn.is_told, "every status is true")
        story.until(operator.idle, "nothing is left to do")
        _check_flat(readings, churn)
        _check_objects(operator, churn)
    finally:
        status = operator.stop()
    assert status == 0, operator.log.read_text()[-3000:]
    assert "Traceback" not in operator.log.read_text(), operator.log.read_text()[-5000:]
    print(f"{churn.steps} steps, {churn.made} variants: {readings[0]} … {readings[-1]}")


@pytest.mark.soak
def test_connections_that_fall_silent_are_given_up(silence: Future[None]) -> None:
    """Nothing is closed and nothing comes: as behind a firewall that forgot the connection."""
    silence.result()


def _readings(control_plane: Cluster, operator: Operator, churn: Churn, proxy: Proxy) -> Iterator[Reading]:
    """Twenty, evenly over the time; watches are cut and a node comes and goes meanwhile."""
    began = cut = time.monotonic()
    taken, node = 0, FakeNode(f"{churn.api.namespace}-extra", labels={"soak": "yes"})
    while (passed := time.monotonic() - began) < SECONDS:
        churn.step()
        if passed >= taken * SECONDS / 20:
            taken += 1
            yield Reading.of(operator)
            if taken % 2:
                control_plane.fake_nodes([node])
            else:
                control_plane.kubectl("delete", "node", node.name, "--ignore-not-found", "--wait=false")
        if time.monotonic() - cut > CUT_EVERY_SECONDS:
            cut = time.monotonic()
            proxy.cut_watches()
        time.sleep(0.05)
    control_plane.kubectl("delete", "node", node.name, "--ignore-not-found", "--wait=false")
    yield Reading.of(operator)


def _check_flat(readings: list[Reading], churn: Churn) -> None:
    third = len(readings) // 3
    middle, last = readings[third : 2 * third], readings[2 * third :]
    said = f"after {churn.made} variants: {readings}"
    grown = _median(one.mib for one in last) - _median(one.mib for one in middle)
    assert grown < GROWTH_MIB, f"grown by {grown:.1f} MiB {said}"
    assert max(one.tasks for one in last) <= max(one.tasks for one in middle) + 30, said
    assert max(one.fds for one in last) <= max(one.fds for one in middle) + 10, said


def _check_objects(operator: Operator, churn: Churn) -> None:
    """What is held is what is there, once pods of the node that is gone have gone too: in a minute or two."""

    def alike() -> bool:
        text = operator.get("/metrics")[1]
        held = {
            kind: int(float(count))
            for kind, count in re.findall(
                r'^roundhouse_operator_objects\{kind="(\w+)"\} ([0-9.]+)$', text, re.MULTILINE
            )
        }
        there: Mapping[str, int] = {
            "ModelVariant": VARIANTS,
            "Engine": ENGINES,
            "Deployment": VARIANTS,
            "Pod": len(churn.api.list(POD, "roundhouse.dev/managed=true")),
        }
        assert {kind: held[kind] for kind in there} == there
        return True

    wait_until(alike, seconds=120, what="what is held is what is there")


def _median(values: Iterator[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
