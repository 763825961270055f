"""What the operator reads from engines, and how often it asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from aiohttp import web

from roundhouse_operator import engines
from roundhouse_operator.core.kinds import POD, Key
from roundhouse_operator.core.reports import EngineReport, ModelReport
from roundhouse_operator.engines import EngineReader, read_report
from roundhouse_operator.standing import Standing
from tests.support import servers

A_POD = Key(POD, "speech", "kws-0-1")
MODELS = {
    "object": "list",
    "generation": 7,
    "data": [
        {"id": "a", "object": "model", "state": "ready", "progress": 1.0, "vramBytes": 1024},
        {"id": "b", "object": "model", "state": "failed", "error": "no such file"},
    ],
}
REPORT = EngineReport(7, {"a": ModelReport("ready", 1024), "b": ModelReport("failed", error="no such file")})


def test_what_an_engine_says_is_read() -> None:
    assert read_report(json.dumps(MODELS).encode()) == REPORT


def test_a_secret_in_the_words_of_an_engine_goes_into_no_status() -> None:
    words = "401 for https://user:s3cr3t@hub.example/x, token hf_abcdefghijklmnop is invalid"
    said = {**MODELS, "data": [{"id": "b", "state": "failed", "error": words}]}
    report = read_report(json.dumps(said).encode())
    assert report
    assert "s3cr3t" not in report.models["b"].error
    assert "hf_abc" not in report.models["b"].error
    assert "is invalid" in report.models["b"].error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"object": "list", "data": [{"id": "a"}]}',
        b'{"generation": "x", "data": []}',
        b'{"generation": 1, "data": [1]}',
        b'{"generation": 1, "data": null}',
    ],
    ids=str,
)
def test_what_is_none_of_the_contract_is_silence(body: bytes) -> None:
    assert read_report(body) is None


class Engine:
    """An engine on loopback that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.body = json.dumps(MODELS).encode()
        self.standing = Standing()
        self.news: list[Key] = []

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(body=self.body)

    async def listen(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v1/models", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.standing.put_pod(A_POD, f"{host}:{port}")
        return runner

    async def until(self, asked: int) -> None:
        await self._until(lambda: self.asked >= asked)

    async def until_heard(self) -> None:
        await self._until(lambda: bool(self.news))

    async def until_all_is_said(self, reader: EngineReader) -> None:
        await self._until(lambda: not reader._asking)

    async def _until(self, probe: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not probe():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "HURRY_SECONDS", 0.02)


@pytest.mark.usefixtures("quick")
async def test_an_engine_is_asked_at_once_and_then_left_alone() -> None:
    engine = Engine()
    runner = await engine.listen()
    reader = EngineReader(engine.standing, engine.news.append)
    reading = asyncio.create_task(reader.run())
    await engine.until_heard()
    await engine.until_all_is_said(reader)
    asked = engine.asked  # more than once where the machine was slow: what has not answered is hurried
    await asyncio.sleep(10 * engines.HURRY_SECONDS)
    assert engine.asked == asked
    assert engine.standing.reports == {A_POD: REPORT}
    assert engine.news == [A_POD]
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await servers.end(runner)


@pytest.mark.usefixtures("quick")
async def test_where_something_new_is_expected_it_is_asked_again_and_again() -> None:
    engine = Engine()
    runner = await engine.listen()
    reader = EngineReader(engine.standing, engine.news.append)
    reading = asyncio.create_task(reader.run())
    await engine.until(1)
    engine.standing.hurry(A_POD, [A_POD])
    await engine.until(4)
    assert engine.news == [A_POD], "the same words again are no news"
    engine.body = b"?"
    asked = engine.asked
    await engine.until(asked + 2)
    assert engine.standing.reports == {A_POD: REPORT}, "silence takes nothing back"
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await servers.end(runner)


def test_of_very_many_pods_only_so_many_are_asked_at_a_time() -> None:
    standing = Standing()
    for number in range(1000):
        standing.put_pod(Key(POD, "speech", f"pod-{number}"), "192.0.2.1:8000")

    async def begin() -> int:
        reader = EngineReader(standing, lambda _: None)
        reader._begin(None)  # type: ignore[arg-type]  # no task runs before the count
        tasks = list(reader._asking)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(tasks)

    assert asyncio.run(begin()) == engines.STARTS_A_TICK


def test_a_pod_whose_engine_ended_has_said_nothing() -> None:
    standing = Standing()
    standing.put_pod(A_POD, "192.0.2.1:8000")
    assert standing.hear(A_POD, REPORT)
    assert not standing.hear(A_POD, REPORT)
    standing.put_pod(A_POD, "")
    assert standing.reports == {}
    assert standing.asked == set()
    assert not standing.hear(A_POD, REPORT), "an answer that came too late"
