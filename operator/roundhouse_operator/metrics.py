"""Prometheus metrics of the operator. Names and labels are part of its interface; alerts rest on them.

What happens is counted as it does; what there is, is read when it is asked for, so that there is one series
for each thing and none for those that are gone. See docs/reference/metrics.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from roundhouse_operator.cache import Cache
from roundhouse_operator.core.kinds import VARIANT
from roundhouse_operator.loads import Loads
from roundhouse_operator.queue import WorkQueue
from roundhouse_operator.tally import Tally
from roundhouse_operator.watch import Source

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_START_SECONDS: Final = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_NAME: Final = "roundhouse_operator_"


class Metrics:
    """All metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._passes = Histogram(
            f"{_NAME}reconcile_seconds",
            "Duration of passes by kind and result.",
            ["kind", "result"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._writes = Counter(
            f"{_NAME}writes",
            "Writes by kind, verb and result: those that the API server took are a success.",
            ["kind", "verb", "result"],
            registry=self.registry,
        )
        self._ready = Histogram(
            f"{_NAME}ready_seconds",
            "From when a new or edited variant is seen until it is Ready and up to date.",
            ["change"],
            buckets=_START_SECONDS,
            registry=self.registry,
        )
        self._unread = Counter(
            f"{_NAME}unreadable_objects",
            "Reports of objects that could not be read, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self._verification_wait = Histogram(
            f"{_NAME}verification_wait_seconds",
            "How long a pod that is to be tested stood in line behind others.",
            buckets=_START_SECONDS,
            registry=self.registry,
        )
        self._scale_writes = Counter(
            "roundhouse_operator_scale_writes",
            "Changes of `replicas` under mode Demand, by direction.",
            ["direction"],
            registry=self.registry,
        )

    def scaled(self, direction: str) -> None:
        self._scale_writes.labels(direction).inc()

    def passed(self, kind: str, seconds: float, *, succeeded: bool) -> None:
        self._passes.labels(kind, "success" if succeeded else "retry").observe(seconds)

    def wrote(self, kind: str, verb: str, result: str) -> None:
        self._writes.labels(kind, verb, result).inc()

    def unread(self, kind: str) -> None:
        self._unread.labels(kind).inc()

    def waited_for_tests(self, seconds: float) -> None:
        self._verification_wait.observe(seconds)

    def became_ready(self, change: str, seconds: float) -> None:
        self._ready.labels(change).observe(seconds)

    def tell_gateways(self, loads: Loads, now: Callable[[], float]) -> None:
        """Adds what is known of the gateways' load reports, asked for at each scrape."""
        Gauge(
            "roundhouse_operator_load_gateways",
            "Gateways that tell this operator of their load.",
            registry=self.registry,
        ).set_function(lambda: loads.heard)
        Gauge(
            "roundhouse_operator_load_silence_seconds",
            "How long the most silent of them was not heard; over 3, nothing is scaled down.",
            registry=self.registry,
        ).set_function(lambda: loads.silent_seconds(now()))

    def show(self, present: Present) -> None:
        self.registry.register(present)


@dataclass(frozen=True, slots=True, eq=False)
class Present(Collector):
    """What there is now. What the resources say is told by the leader alone, so that sums are right."""

    queue: WorkQueue[Any]
    cache: Cache
    tally: Tally
    sources: Sequence[Source]
    leading: Callable[[], bool]
    unswept: Callable[[], int]

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        leading = self.leading()
        yield _gauge("leader", "1 while this process holds the Lease.", float(leading))
        yield _gauge("queue_depth", "Resources that are due for a pass.", self.queue.depth)
        yield _gauge("queue_running", "Resources that are being worked on.", self.queue.running)
        yield _gauge("queue_waiting", "Resources whose next pass comes later.", self.queue.waiting)
        yield _gauge("queue_failing", "Resources whose last pass failed.", self.queue.failing)
        oldest = self.queue.oldest_seconds() if leading else 0.0
        yield _gauge("queue_oldest_seconds", "How long the oldest has been due or in work.", oldest)
        yield _gauge("tasks", "Tasks of the event loop.", len(_tasks()))
        unswept = "Caches of weights that nobody wants and that could not be removed."
        yield _gauge("caches_not_swept", unswept, self.unswept() if leading else 0)
        yield self._objects()
        yield self._watches()
        if leading:
            yield self._conditions()
            yield self._variants()

    def _objects(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"{_NAME}objects", "Objects that are held.", labels=["kind"])
        for kind, count in self.cache.counts().items():
            family.add_metric([kind], count)
        return family

    def _watches(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            f"{_NAME}watch_age_seconds",
            "How long nothing was heard of what is followed.",
            labels=["kind", "namespace"],
        )
        for source in self.sources:
            if source.heard_at:
                scope = source.scope
                family.add_metric([scope.kind.name, scope.namespace or ""], source.silent_seconds())
        return family

    def _conditions(self) -> GaugeMetricFamily:
        labels = ["kind", "type", "status", "reason"]
        family = GaugeMetricFamily(f"{_NAME}conditions", "Resources by what is said of them.", labels=labels)
        for condition, count in self.tally.conditions.items():
            family.add_metric(condition, count)
        return family

    def _variants(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            f"{_NAME}variant_ready",
            "1 while the variant is Ready; the reason is that of the condition.",
            labels=["namespace", "name", "reason"],
        )
        for one in self.cache.resources():
            if one.kind == VARIANT:
                ready = next((each for each in one.verdicts if each[0] == "Ready"), ("", "", "Pending"))
                family.add_metric([one.namespace, one.name, ready[2]], float(ready[1] == "True"))
        return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_NAME}{name}", text, value=value)


def _tasks() -> set[asyncio.Task[Any]]:
    try:
        return asyncio.all_tasks()
    except RuntimeError:
        return set()  # asked for outside of a loop
