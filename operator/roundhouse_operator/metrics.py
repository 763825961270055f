"""Prometheus metrics of the operator. Names and labels are part of its interface; alerts rest on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from roundhouse_operator.core.kinds import VARIANT
from roundhouse_operator.project import StoredResource

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """All metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.queue_depth = Gauge(
            "roundhouse_operator_queue_depth",
            "Resources that are due for a pass.",
            registry=self.registry,
        )
        self.queue_oldest = Gauge(
            "roundhouse_operator_queue_oldest_seconds",
            "How long the oldest of them has been due or in work.",
            registry=self.registry,
        )
        self.leader = Gauge(
            "roundhouse_operator_leader", "1 while this process holds the Lease.", registry=self.registry
        )
        self._passes = Histogram(
            "roundhouse_operator_reconcile_seconds",
            "Duration of passes by kind and result.",
            ["kind", "result"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._writes = Counter(
            "roundhouse_operator_writes",
            "Writes by kind, verb and result: those that the API server took are a success.",
            ["kind", "verb", "result"],
            registry=self.registry,
        )

    def passed(self, kind: str, seconds: float, *, succeeded: bool) -> None:
        self._passes.labels(kind, "success" if succeeded else "retry").observe(seconds)

    def wrote(self, kind: str, verb: str, result: str) -> None:
        self._writes.labels(kind, verb, result).inc()

    def tell_variants(self, resources: Callable[[], Iterable[StoredResource]]) -> None:
        """Adds `roundhouse_operator_variant_ready`, read from the cache when it is asked for.

        So there is one series for each variant, and none for those that are gone.
        """
        self.registry.register(_VariantCollector(resources))


class _VariantCollector(Collector):
    def __init__(self, resources: Callable[[], Iterable[StoredResource]]) -> None:
        self._resources = resources

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "roundhouse_operator_variant_ready",
            "1 while the variant is Ready; the reason is that of the condition.",
            labels=["namespace", "name", "reason"],
        )
        for one in self._resources():
            if one.kind == VARIANT:
                status, reason = next(
                    (each[1:] for each in one.verdicts if each[0] == "Ready"), ("Unknown", "Pending")
                )
                family.add_metric([one.namespace, one.name, reason], float(status == "True"))
        yield family
