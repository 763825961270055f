"""The engine's metrics, and what they count. Names are `roundhouse_engine_*`, units are base units."""

import asyncio
from collections.abc import Sequence
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector
from typing_extensions import override

# Recordings of minutes take minutes: the last bucket is what a client's default timeout allows.
REQUEST_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
AUDIO_BUCKETS: Final = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400)
FACTOR_BUCKETS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 5, 10)
CANCEL_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STALL_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
ITEM_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LAG_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10)

UNKNOWN_MODEL: Final = "unknown"
"""The label of requests that never named a served model: clients must not be able to make up series."""


class Metrics:
    """One registry, so that two engines in one process (tests) do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = self._counter("requests", "Answered requests by status code", "model", "code")
        self.refused = self._counter("refused", "Requests refused before their body was read", "reason")
        self.request_seconds = self._histogram(
            "request_seconds", "From admission to the answer's end, upload included", REQUEST_BUCKETS, "model"
        )
        self.compute_seconds = self._counter("compute_seconds", "Time spent in the handler", "model")
        self.audio_seconds = self._counter("audio_seconds", "Audio transcribed", "model")
        self.recording_seconds = self._histogram(
            "recording_seconds", "Lengths of transcribed recordings", AUDIO_BUCKETS, "model"
        )
        self.real_time_factor = self._histogram(
            "real_time_factor",
            "Compute time over audio length; 1 keeps up with speech",
            FACTOR_BUCKETS,
            "model",
        )
        self.music_seconds = self._counter("music_seconds", "Music that was made", "model")
        self.upload_bytes = self._counter("upload_bytes", "Bytes of recordings received")
        self.tokens = self._counter(
            "tokens",
            "Tokens read (input) and written (output), also for who left before the end",
            *("model", "kind"),
        )
        self.first_token_seconds = self._histogram(
            "first_token_seconds", "From the read request to the first text of it", REQUEST_BUCKETS, "model"
        )
        self.batches = self._counter("batches", "Batches computed", "model")
        self.batch_items = self._histogram("batch_items", "Texts of a batch", ITEM_BUCKETS, "model")
        self.batches_halved = self._counter(
            "batches_halved", "Times that memory was short and batches became half as large", "model"
        )
        self.cancelled = self._counter("cancelled", "Requests whose client left during the work")
        self.cancel_seconds = self._histogram(
            "cancel_seconds", "From a client's leaving to its slot being free", CANCEL_BUCKETS
        )
        self.restarts = self._counter("restarts", "Times that a slot's process died and was started again")
        self.loop_stall_seconds = self._histogram(
            "event_loop_stall_seconds", "How late the event loop runs, sampled", STALL_BUCKETS
        )
        self.slots_in_use = self._gauge("slots_in_use", "Slots that are taken")
        self.slots_computing = self._gauge("slots_computing", "Slots that compute")
        self.requests_waiting = self._gauge(
            "requests_waiting", "Requests that wait for a batch, for a slot, or for their model to be loaded"
        )
        self.slots_overdue = self._gauge(
            "slots_overdue", "Slots that compute on for nobody, though they were told to stop"
        )
        self.slots = self._gauge("slots", "Slots that can take work, while nothing is taken")
        self.sessions = self._counter("sessions", "Realtime sessions by how they ended", "model", "code")
        self.sessions_in_use = self._gauge("sessions_in_use", "Realtime sessions that are held")
        self.session_seconds = self._counter("session_audio_seconds", "Audio of realtime sessions", "model")
        self.lag_seconds = self._histogram(
            "session_lag_seconds", "How far a session was behind its speaker, sampled", LAG_BUCKETS, "model"
        )
        self.ready = self._gauge("ready", "1 while the engine takes work")
        self.model_load_seconds = self._histogram(
            "model_load_seconds", "How long each load of a model took", REQUEST_BUCKETS, "model"
        )
        self.unloads = self._counter(
            "model_unloads",
            "Times that a model was unloaded: for others (memory), left the list (removed), or failed",
            *("model", "reason"),
        )
        self.memory_budget_bytes = self._gauge(
            "memory_budget_bytes", "What models may hold together; 0: no bound"
        )
        self.load_seconds = self._gauge("load_seconds", "How long the models took to load, last time")

    async def render(self) -> bytes:
        """In Prometheus' format. Of a hundred models it is a tenth of a second's work, which stops nobody.

        The loop reads, because it changes what some values are counted from, and turns to others between two
        metrics; a thread writes.
        """
        read = []
        for metric in self.registry.collect():
            read.append(metric)
            await asyncio.sleep(0)
        return await asyncio.to_thread(generate_latest, _Read(read))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"roundhouse_engine_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"roundhouse_engine_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"roundhouse_engine_{name}", text, labels, buckets=buckets, registry=self.registry)


class _Read(Collector):
    """Metrics with the values that they had."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    @override
    def collect(self) -> Sequence[Metric]:
        return self._metrics
