"""What routes of texts have in common."""

import json
import threading
from typing import ClassVar

import pytest
from starlette.types import Message
from typing_extensions import override

from roundhouse_engine.embeddings import Embeddings
from roundhouse_engine.errors import EngineError
from roundhouse_engine.large_json import SMALL_BYTES
from roundhouse_engine.lease import Lease
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.models import ModelState, ModelStatus
from roundhouse_engine.pool import Pool
from roundhouse_engine.settings import read_settings
from tests.conformance.engine.text_handlers import Vectors


class Watched(Pool):
    """Admits always, and notes which threads look at it."""

    asked_by: ClassVar[set[str]] = set()

    @override
    def admit(self) -> Lease:
        return Lease(self)

    @property
    @override
    def models(self) -> tuple[ModelStatus, ...]:
        self.asked_by.add(threading.current_thread().name)
        return (ModelStatus("m", ModelState.READY, 1.0, 1, 0),)


async def test_the_thread_that_reads_a_large_body_looks_at_nothing_that_the_loop_changes() -> None:
    """A set that grows while another thread walks through it is an error for whoever sent the body."""
    metrics = Metrics()
    door = Watched([], metrics)
    route = Embeddings(Vectors, read_settings({"MODELS": "m"}, Vectors), door, metrics)
    body = json.dumps({"model": "m", "input": ["x" * SMALL_BYTES, 5]}).encode()

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    with pytest.raises(EngineError) as told:
        await route({"type": "http", "headers": []}, receive, send)
    assert told.value.problem.param == "input", "it was read"
    assert door.asked_by == {threading.main_thread().name}
