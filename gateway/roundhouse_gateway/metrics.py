"""The gateway's metrics: all named here.

Label `model` is the public id of a model that exists, else `unknown`; `route` is one of the routes that are
served, else `other`; `key` is the name of an API key, else its id, and `other` past the first of them that
were used. So no client can make new series.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from itertools import chain
from typing import Final

from roundhouse_gateway.series import (
    OTHER,
    AnyFamily,
    Distribution,
    Family,
    Numbers,
    OwnNumbers,
    Value,
    exposition,
    written,
)
from roundhouse_gateway.usage import Usage

UNKNOWN_MODEL: Final = "unknown"
OTHER_ROUTE: Final = OTHER
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
)
MOST_KEYS: Final = 200
"""Labels of keys."""
MOST_KNOWN: Final = 50 * MOST_KEYS
"""Keys whose label is remembered, and tallies: past that all are looked up again."""
_PREFIX: Final = "roundhouse_gateway_"


class Metrics:
    """One set of metrics; `age_seconds` and `models` are asked at each scrape."""

    def __init__(
        self, age_seconds: Callable[[], float], models: Callable[[], int], numbers: Numbers | None = None
    ) -> None:
        self.families: list[AnyFamily] = []
        self._keys: dict[str, str] = {"": ""}
        self._tallies: dict[tuple[str, str, str], Tally] = {}
        self._numbers = numbers or OwnNumbers()
        self.requests = self._counter(
            "requests", "Requests answered.", "route", "code", "model", "key"
        ).labels
        self.duration = self._histogram(
            "request_duration_seconds", "From a request's head to the end of its answer.", "route", "model"
        ).labels
        self.first_byte = self._histogram(
            "time_to_first_byte_seconds", "From a request's head to the head of its answer.", "route", "model"
        ).labels
        self.tokens = self._counter("tokens", "Tokens, as answers say.", "model", "kind", "key").labels
        self.audio_seconds = self._counter(
            "audio_seconds", "Seconds of audio, as answers say.", "model", "key"
        ).labels
        self.engine_errors = self._counter(
            "engine_errors", "Calls of an engine that failed, by what went wrong.", "model", "reason"
        ).labels
        self.retries = self._counter("retries", "Calls that went on to another endpoint.", "model").labels
        self.ejections = self._counter(
            "ejections",
            "Times that an endpoint began to be passed over because it failed.",
            "model",
        ).labels
        self.resting_endpoints = self._gauge(
            "resting_endpoints", "Endpoints that are passed over because they fail.", "model"
        ).labels
        self.in_flight = self._gauge("in_flight_requests", "Requests being answered.", "route").labels
        self.resolution_errors = self._counter(
            "model_resolution_errors", "Requests whose model was unknown, unfit or not running.", "reason"
        ).labels
        self.held = self._gauge("held_requests", "Requests that wait for their model.", "model").labels
        self.hold_seconds = self._histogram(
            "hold_seconds", "How long requests waited, by what came of it.", "model", "outcome"
        ).labels
        self.fast_lane = self._counter(
            "fast_lane_requests", "Requests that took the shorter way inside."
        ).labels()
        self.upload_bytes = self._counter("upload_bytes", "Bytes of request bodies received.").labels()
        self.spool_bytes = self._gauge(
            "spool_bytes", "Bytes on disk of forms whose file came first."
        ).labels()
        self.connections = self._gauge("connections", "Open connections of clients.").labels()
        tasks = self._gauge("tasks", "Tasks of the event loop.").labels()
        tasks.set_function(lambda: len(asyncio.all_tasks()))
        self.limits_store_away = self._gauge(
            "limits_store_away", "1 while the store of limits does not answer."
        ).labels()
        self.worker_restarts = self._counter(
            "worker_restarts", "Workers of this gateway that ended and were replaced."
        ).labels()
        age = self._gauge("snapshot_age_seconds", "How long the cluster has not been followed.")
        age.labels().set_function(age_seconds)
        self._gauge("models", "Models that are published.").labels().set_function(models)

    def key(self, key_id: str, name: str) -> str:
        """The label of a key. Which it is stays, whatever the key is called then.

        Keys of one name share it: one that is replaced by another, again and again, takes no further place.
        """
        if (known := self._keys.get(key_id)) is not None:
            return known
        label = name or key_id
        if not self._numbers.claim(label, MOST_KEYS):
            return OTHER
        if len(self._keys) >= MOST_KNOWN:
            self._keys = {"": ""}
        return self._keys.setdefault(key_id, label)

    def models(self) -> set[str]:
        """All that any series is of, as they are written in labels."""
        return set(self._numbers.models()).union(*(family.models() for family in self.families))

    def let_go(self, models: Collection[str]) -> None:
        """All series of these, which are gone."""
        for model in models:
            for family in self.families:
                family.let_go(model)
            self._numbers.let_go(model)
        for labels in [labels for labels in self._tallies if written(labels[1]) in models]:
            self._tallies.pop(labels).gone = True

    def tally(self, route: str, model: str, key: str) -> "Tally":
        """What counts the requests of these labels."""
        labels = route, model, key
        found = self._tallies.get(labels)
        if found is None:
            if len(self._tallies) >= MOST_KNOWN:
                self._tallies = {}
            found = self._tallies[labels] = Tally(self, *labels)
        return found

    def _counter(self, name: str, text: str, *labels: str) -> Family[Value]:
        return self._values(f"{name}_total", "counter", text, labels)

    def _gauge(self, name: str, text: str, *labels: str) -> Family[Value]:
        return self._values(name, "gauge", text, labels)

    def _values(self, name: str, kind: str, text: str, labels: tuple[str, ...]) -> Family[Value]:
        full = _PREFIX + name
        make = partial(self._numbers.value, full, kind=kind)
        made = Family(full, kind, text, labels, make)
        self.families.append(made)
        return made

    def _histogram(self, name: str, text: str, *labels: str) -> Family[Distribution]:
        full = _PREFIX + name
        make = partial(self._numbers.distribution, full, bounds=SECONDS)
        made = Family(full, "histogram", text, labels, make)
        made.bounds = SECONDS
        self.families.append(made)
        return made

    async def exposition(self) -> AsyncIterator[bytes]:
        """The whole text, in slices; what the process itself uses comes last."""
        texts = chain.from_iterable(map(self._numbers.texts, self.families))
        async for piece in exposition(texts):
            yield piece
        yield self._numbers.of_process()


class Tally:
    """The series of one route, model and key, each looked up once and there once it has something to say."""

    __slots__ = ("_duration", "_first_byte", "_labels", "_metrics", "_requests", "_tokens", "gone")

    def __init__(self, metrics: Metrics, route: str, model: str, key: str) -> None:
        self.gone = False
        """Its series were let go: what still has it is to ask for another."""
        self._metrics = metrics
        self._labels = route, model, key
        self._duration = metrics.duration(route, model)
        self._first_byte: Distribution | None = None
        self._requests: dict[int, Value] = {}
        self._tokens: dict[str, Value] = {}

    def count(self, status: int, seconds: float, first_byte_seconds: float | None) -> None:
        """One request that is over."""
        requests = self._requests.get(status)
        if requests is None:
            requests = self._requests[status] = self._of_status(status)
        requests.inc()
        self._duration.observe(seconds)
        if first_byte_seconds is not None:
            if self._first_byte is None:
                self._first_byte = self._metrics.first_byte(*self._labels[:2])
            self._first_byte.observe(first_byte_seconds)

    def used(self, usage: Usage) -> None:
        """What an answer says it has used."""
        if usage.input_tokens:
            (self._tokens.get("input") or self._of_kind("input")).inc(usage.input_tokens)
        if usage.output_tokens:
            (self._tokens.get("output") or self._of_kind("output")).inc(usage.output_tokens)
        if usage.audio_seconds:
            _, model, key = self._labels
            self._metrics.audio_seconds(model, key).inc(usage.audio_seconds)

    def _of_kind(self, kind: str) -> Value:
        _, model, key = self._labels
        return self._tokens.setdefault(kind, self._metrics.tokens(model, kind, key))

    def _of_status(self, status: int) -> Value:
        route, model, key = self._labels
        return self._metrics.requests(route, str(status), model, key)
