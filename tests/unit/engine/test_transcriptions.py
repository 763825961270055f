"""The route where the server below it fails."""

import pytest
from starlette.types import Message

from roundhouse_engine.settings import read_settings
from roundhouse_engine.transcriptions import Transcriptions
from tests.unit.engine.test_pool import Engine
from tests.unit.engine.test_settings import Plain


async def test_what_nobody_foresaw_counts_as_500_and_frees_its_place() -> None:
    engine = Engine()
    await engine.up()
    route = Transcriptions(Plain, read_settings({"MODELS": "m"}, Plain), engine.pool, engine.metrics)
    scope = {"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=b")]}

    async def receive() -> Message:
        raise RuntimeError("no such thing ever happens")

    async def send(_: Message) -> None: ...

    with pytest.raises(RuntimeError):
        await route(scope, receive, send)
    assert engine.value("requests_total", model="unknown", code="500") == 1
    assert engine.value("request_seconds_count", model="unknown") == 0
    assert engine.pool.in_use == 0
    engine.supervising.cancel()
