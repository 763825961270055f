"""Engines are really asked, over HTTP; ConfigMaps and pods are those of an API server that a test scripts."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web

from roundhouse_api.model import Manifest
from roundhouse_operator.asking import Asker, BusyError
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.kinds import POD, VARIANT, Key, Kind
from roundhouse_operator.core.verification.asks import Ask
from roundhouse_operator.core.verification.exam import Exam
from roundhouse_operator.errands import AT_ONCE
from roundhouse_operator.errors import NotFoundError
from roundhouse_operator.verifier import Verifier, _Job, _State
from tests.support import servers
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NAMESPACE, Scene, node, pod, sent

KEY = Key(VARIANT, NAMESPACE, "kws-en")
ASK = Ask("/v1/audio/transcriptions", fields={"model": "m"}, recording=b"RIFF")
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answering: Answering) -> AsyncIterator[int]:
    """An engine on a port of its own."""
    app = web.Application()
    app.router.add_post("/{way:.*}", answering)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await servers.end(runner)


class Transcriber:
    """Says what it is told to, after some refusals, and keeps what it was asked."""

    def __init__(self, text: str = "go forward ten meters", refusals: int = 0) -> None:
        self.text = text
        self.refusals = refusals
        self.asked: list[Manifest] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        self.asked.append({name: getattr(value, "filename", value) for name, value in form.items()})
        if len(self.asked) <= self.refusals:
            return web.json_response({}, status=503, headers={"Retry-After": "0"})
        words = [{"word": word, "start": at, "end": at + 1} for at, word in enumerate(self.text.split())]
        return web.json_response({"text": self.text, "words": words})


async def test_what_an_engine_says_instead_of_an_answer() -> None:
    transcriber = Transcriber(refusals=1)
    async with serving(transcriber.answer) as port:
        with pytest.raises(BusyError, match="the engine answered 503") as busy:
            await Asker().ask("127.0.0.1", port, ASK)
        assert not busy.value.slow
        answer = await Asker().ask("127.0.0.1", port, ASK)
    assert answer.json()["text"] == "go forward ten meters"
    assert transcriber.asked == [{"model": "m", "file": "recording"}] * 2
    with pytest.raises(BusyError, match="Connect call failed") as absent:
        await Asker().ask("127.0.0.1", port, ASK)
    assert not absent.value.slow


async def test_an_answer_without_an_end_is_cut() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    async with serving(endless) as port:
        answer = await Asker().ask("127.0.0.1", port, ASK)
    assert len(answer.body) == 4 << 20


class ApiServer:
    """One ConfigMap, and the conditions of pods."""

    def __init__(self) -> None:
        self.config_map: Manifest | None = {"binaryData": {"go.wav": base64.b64encode(b"RIFF").decode()}}
        self.conditions: dict[str, Manifest] = {}

    async def get(self, _kind: Kind, _namespace: str, name: str) -> Manifest:
        if self.config_map is None:
            raise NotFoundError(404, "NotFound", f"{name} not found")
        return self.config_map

    async def patch_pod_condition(self, _namespace: str, name: str, condition: Manifest) -> Manifest:
        self.conditions[name] = condition
        return sent(running(name, condition))


def running(name: str = "kws-en-1", *more: Manifest) -> Manifest:
    ready = {"type": "ContainersReady", "status": "True"}
    return pod(name, podIP="127.0.0.1", conditions=[ready, *more])


class Rig:
    """A variant with tests, its pod, and a verifier at work on them."""

    def __init__(self, port: int, *, patience_seconds: float = 30, **test: Any) -> None:
        api: Manifest = {"port": port}
        known = {"name": "go", "inputConfigMapRef": {"name": "speech", "key": "go.wav"}, **test}
        described = variant(verification={"policy": "Required", "tests": [known]})
        self.scene = Scene(node("n1"), engine(api=api, capabilities={"wordTimestamps": "Native"}), described)
        self.scene.settle("kws-en", replicas=1, updatedReplicas=1)
        self.server = ApiServer()
        self.again: asyncio.Queue[Key] = asyncio.Queue()
        cluster = cast("Cluster", self.server)
        asker = Asker(patience_seconds)
        self.verifier = Verifier(cluster, self.scene.cache, self.again.put_nowait, asker)

    def start_pod(self, name: str = "kws-en-1") -> None:
        one = running(name)
        deployment = next(one for one in self.scene.world("kws-en").children if one.kind.name == "Deployment")
        one["metadata"]["annotations"] = deployment.live["spec"]["template"]["metadata"]["annotations"]
        self.scene.put(one)

    async def one_pass(self) -> Exam:
        world = await self.verifier.look(self.scene.world("kws-en"))
        decision = decide(world)
        self.scene.settle("kws-en", replicas=1, updatedReplicas=1)
        await self.verifier.go_on(world, decision)
        assert decision.exam
        return decision.exam

    async def passes_until_asked(self) -> Exam:
        """A pass, the work that follows from it, and the pass that this asks for."""
        working = asyncio.create_task(self.verifier.run())
        try:
            await self.one_pass()
            assert await asyncio.wait_for(self.again.get(), 60) == KEY
            return await self.one_pass()
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            self.verifier.forget(KEY)


async def test_a_pod_that_knows_the_answer_gets_its_gate() -> None:
    transcriber = Transcriber(refusals=1)
    async with serving(transcriber.answer) as port:
        rig = Rig(port, expectText="Go forward ten meters.")
        rig.start_pod()
        exam = await rig.passes_until_asked()
    assert exam.proof
    assert exam.proof.passed
    assert exam.proof.verified == ("WordTimestamps",)
    condition = rig.server.conditions["kws-en-1"]
    assert (condition["status"], condition["reason"]) == ("True", "Verified")
    assert [one["response_format"] for one in transcriber.asked] == ["json", "json", "verbose_json"]


async def test_a_pod_that_does_not_know_it_is_held_back() -> None:
    async with serving(Transcriber("no forward").answer) as port:
        rig = Rig(port, expectText="Go forward ten meters.")
        rig.start_pod()
        exam = await rig.passes_until_asked()
    assert exam.failing
    assert "75.0 % word errors, 0 % allowed: 'no forward'" in exam.failing.message
    assert rig.server.conditions["kws-en-1"]["status"] == "False"


async def test_silence_is_told_and_is_no_failure() -> None:
    async with serving(Transcriber(refusals=99).answer) as port:
        rig = Rig(port, patience_seconds=1, expectText="x")
        rig.start_pod()
        exam = await rig.passes_until_asked()
    assert exam.failing
    assert exam.failing.reason == "TestUnanswered"
    assert "no answer within 1 s: the engine answered 503" in exam.failing.message
    assert exam.proof is None
    assert not rig.server.conditions


async def test_an_answer_that_breaks_the_judgement_ends_nothing() -> None:
    async def strange(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"text": "go", "words": [{"start": "x"}]})

    async with serving(strange) as port:
        rig = Rig(port, expectText="go")
        rig.start_pod()
        exam = await rig.passes_until_asked()
    assert exam.proof
    assert exam.proof.unproven == ("WordTimestamps",)


@pytest.mark.parametrize(
    ("config_map", "words"),
    [
        (None, "ConfigMap 'speech' does not exist"),
        ({"data": {"other": "x"}}, "ConfigMap 'speech' has no key 'go.wav'"),
        ({"binaryData": {"go.wav": "%"}}, "is not base64"),
    ],
)
async def test_an_input_that_is_not_there_is_named(config_map: Manifest | None, words: str) -> None:
    rig = Rig(1)
    rig.server.config_map = config_map
    rig.start_pod()
    exam = await rig.one_pass()
    assert exam.trouble
    assert words in exam.trouble.message
    assert exam.candidate is None
    rig.verifier.forget(KEY)


async def test_nothing_is_kept_of_a_variant_that_has_no_tests_any_more() -> None:
    rig = Rig(1)
    await rig.one_pass()
    assert rig.verifier._states
    rig.scene.put(variant())
    await rig.verifier.look(rig.scene.world("kws-en"))
    assert not rig.verifier._states
    assert not rig.scene.cache._exams


async def test_nobody_answers_for_a_pod_that_is_gone() -> None:
    """Who has its address a moment later is not asked in its place."""
    asked = asyncio.Event()
    stranger = Transcriber(refusals=10_000)

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.set()
        return await stranger.answer(request)

    async with serving(answer) as port:
        rig = Rig(port, expectText="Go forward ten meters.", patience_seconds=300)
        rig.start_pod()
        working = asyncio.create_task(rig.verifier.run())
        await rig.one_pass()
        await asyncio.wait_for(asked.wait(), 60)
        rig.scene.cache.forget(Key(POD, NAMESPACE, "kws-en-1"))
        stranger.refusals = 0
        assert await asyncio.wait_for(rig.again.get(), 60) == KEY
        exam = await rig.one_pass()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        rig.verifier.forget(KEY)
    assert exam.proof is None
    assert exam.trouble is None
    assert len(stranger.asked) == 1


async def test_an_edit_does_not_wait_for_the_tests_of_a_pod_that_it_replaces() -> None:
    hanging, over, answering = asyncio.Event(), asyncio.Event(), Transcriber()

    async def hang(_request: web.Request) -> web.StreamResponse:
        hanging.set()
        await over.wait()
        return web.Response()

    async with serving(hang) as bad, serving(answering.answer) as good:
        rig = Rig(bad, expectText="Go forward ten meters.", patience_seconds=300)
        rig.start_pod()
        working = asyncio.create_task(rig.verifier.run())
        await rig.one_pass()
        await asyncio.wait_for(hanging.wait(), 60)
        rig.scene.cache.forget(Key(POD, NAMESPACE, "kws-en-1"))
        rig.scene.put(engine(api={"port": good}, capabilities={"wordTimestamps": "Native"}))
        rig.scene.settle("kws-en", replicas=1, updatedReplicas=1)
        rig.start_pod("kws-en-2")
        await rig.one_pass()
        assert await asyncio.wait_for(rig.again.get(), 60) == KEY
        exam = await rig.one_pass()
        over.set()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        rig.verifier.forget(KEY)
    assert exam.proof
    assert exam.proof.pod == "kws-en-2"


async def test_engines_that_refuse_hold_up_no_other() -> None:
    """More than there are places refuse every request; the pod of another variant is asked at once."""
    refusing = Transcriber(refusals=10_000)
    async with serving(refusing.answer) as bad, serving(Transcriber().answer) as good:
        rig, other = Rig(good, expectText="Go forward ten meters.", patience_seconds=300), Rig(bad)
        other.start_pod()
        world = await other.verifier.look(other.scene.world("kws-en"))
        intent = decide(world).intent
        assert intent
        assert intent.variant.verification
        for number in range(3 * AT_ONCE):
            key = Key(VARIANT, NAMESPACE, f"bad-{number:02}")
            rig.scene.put(variant(key.name), pod(f"{key.name}-1", key.name, podIP="127.0.0.1"))
            tests, inputs = intent.variant.verification, world.exam.inputs
            job = _Job(key, intent, tests, "r", inputs, f"{key.name}-1", "127.0.0.1")
            rig.verifier._states[key] = _State(running=job)
            rig.verifier._errands.add(job)
        other.verifier.forget(KEY)
        rig.start_pod()
        exam = await rig.passes_until_asked()
    assert exam.proof
    assert len(refusing.asked) >= AT_ONCE
