"""The gateway's Prometheus metrics: all named here, all of one registry.

Label `model` is the public id of a model that exists, else `unknown`, and `route` one of the routes that are
served, else `other`, so that no client can make new series. Children are kept: looking one up costs less
than making its labels.
"""

from collections.abc import Callable
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

UNKNOWN_MODEL = "unknown"
OTHER_ROUTE = "other"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_PREFIX = "roundhouse_gateway_"
_KEPT_CHILDREN = 20_000


class Metrics:
    """One set of metrics; `age_seconds` and `models` are asked at each scrape."""

    def __init__(self, age_seconds: Callable[[], float], models: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        requests = self._counter("requests", "Requests answered.", "route", "code", "model")
        duration = self._histogram(
            "request_duration_seconds", "From a request's head to the end of its answer.", "route", "model"
        )
        first_byte = self._histogram(
            "time_to_first_byte_seconds", "From a request's head to the head of its answer.", "route", "model"
        )
        engine_errors = self._counter(
            "engine_errors", "Calls of an engine that failed, by what went wrong.", "model", "reason"
        )
        in_flight = self._gauge("in_flight_requests", "Requests being answered.", "route")
        resolution_errors = self._counter(
            "model_resolution_errors", "Requests whose model was unknown, unfit or not running.", "reason"
        )
        held = self._gauge("held_requests", "Requests that wait for their model.", "model")
        hold_seconds = self._histogram(
            "hold_seconds", "How long requests waited, by what came of it.", "model", "outcome"
        )
        self.upload_bytes = self._counter("upload_bytes", "Bytes of request bodies received.")
        self.spool_bytes = self._gauge("spool_bytes", "Bytes on disk of forms whose file came first.")
        self._gauge("snapshot_age_seconds", "How long the cluster has not been followed.").set_function(
            age_seconds
        )
        self._gauge("models", "Models that are published.").set_function(models)
        keep = lru_cache(_KEPT_CHILDREN)
        self.requests = keep(requests.labels)
        self.duration = keep(duration.labels)
        self.first_byte = keep(first_byte.labels)
        self.engine_errors = keep(engine_errors.labels)
        self.in_flight = keep(in_flight.labels)
        self.resolution_errors = keep(resolution_errors.labels)
        self.held = keep(held.labels)
        self.hold_seconds = keep(hold_seconds.labels)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(_PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(_PREFIX + name, text, labels, registry=self.registry, buckets=SECONDS)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
