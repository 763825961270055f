"""A form that is kept is sent again where its engine went before it answered, and its model is waited for."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway.client import field as text
from tests.conformance.gateway.client import file
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import NAMESPACE, Variant, slice_of
from tests.conformance.gateway.scripted_engine import ScriptedEngine
from tests.support.waiting import wait_until

WHISPER = Variant("whisper", hold_seconds=60)
MODEL = text("model", "whisper")
STORED = (file(), MODEL)


def serve(world: World, variant: Variant, engine: ScriptedEngine) -> None:
    world.publish(variant)
    world.api.put("endpointslices", slice_of("whisper", engine.port))
    world.wait_for("whisper", "running")


def held(world: World) -> int:
    return int(world.gateway.metric("roundhouse_gateway_held_requests"))


def test_a_form_that_was_stored_waits_for_the_next_pod(world: World) -> None:
    old, new = world.engine(), world.engine()
    old.answer = scripts.hang_up
    serve(world, WHISPER, old)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(world.gateway.transcribe, *STORED)
        wait_until(lambda: old.requests, seconds=10, what="the old pod has it", every=0.01)
        world.api.delete("endpointslices", NAMESPACE, "whisper-a")
        old.stop()
        wait_until(lambda: held(world) == 1, seconds=20, what="it is held", every=0.02)
        world.api.put("endpointslices", slice_of("whisper", new.port, suffix="b"))
        assert reply.result().status == 200
    assert [len(engine.requests) for engine in (old, new)] == [1, 1]
    assert new.requests[0].file_sha256 == old.requests[0].file_sha256


def test_a_form_that_brings_the_engine_down_is_sent_again_once(world: World) -> None:
    engine = world.engine()
    engine.answer = scripts.hang_up
    serve(world, WHISPER, engine)
    reply = world.gateway.transcribe(*STORED)
    assert (reply.status, reply.error["code"]) == (502, "engine_failed")
    assert reply.headers["x-should-retry"] == "false"
    assert len(engine.requests) == 2


def test_nor_does_it_meet_all_of_several(world: World) -> None:
    engines = [world.engine() for _ in range(4)]
    for number, engine in enumerate(engines):
        engine.answer = scripts.hang_up
        world.api.put("endpointslices", slice_of("whisper", engine.port, suffix=str(number)))
    serve(world, WHISPER, engines[0])
    assert world.gateway.transcribe(*STORED).error["code"] == "engine_failed"
    assert sum(len(engine.requests) for engine in engines) == 2


@pytest.mark.parametrize(
    ("variant", "parts"),
    [
        pytest.param(Variant("whisper"), STORED, id="nobody waits under Manual"),
        pytest.param(replace(WHISPER, hold_seconds=0), STORED, id="nobody is held"),
        pytest.param(WHISPER, (MODEL, file(b"x" * (8 << 20))), id="what was passed on is gone"),
    ],
)
def test_others_are_told_at_once(world: World, variant: Variant, parts: tuple[bytes, ...]) -> None:
    engine = world.engine()
    engine.answer = scripts.hang_up
    serve(world, variant, engine)
    assert world.gateway.transcribe(*parts).error["code"] == "engine_failed"
    assert len(engine.requests) == 1
