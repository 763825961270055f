"""What a client gets where the model that it asked for does not run, is full or fails."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import openai
import pytest

from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway.client import AUDIO, file
from tests.conformance.gateway.client import field as text
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.gate import Gate
from tests.conformance.gateway.manifests import Manifest, Variant, slice_of
from tests.conformance.gateway.scripted_engine import Answer, ScriptedEngine
from tests.support.waiting import wait_until

MODEL = text("model", "first")


def with_fallbacks(*rules: str | Manifest) -> Variant:
    named = [{"model": each} if isinstance(each, str) else each for each in rules]
    return Variant("first", spec={"fallbacks": named})


@pytest.fixture
def second(world: World) -> ScriptedEngine:
    """A model that runs, and stands in for others."""
    return world.serve(Variant("second", aliases=("spare",), real_time_factor="9"))


@pytest.mark.req("S1-17")
def test_a_model_that_does_not_run_answers_by_its_fallback_and_the_client_is_told(
    world: World, second: ScriptedEngine
) -> None:
    world.publish(replace(with_fallbacks("nobody", "spare"), available="False", reason="Starting"))
    world.wait_for("first", "available")
    reply = world.gateway.transcribe(MODEL, file())
    assert (reply.status, reply.headers["x-roundhouse-model"]) == (200, "second")
    assert second.requests[0].model == "engine-second"
    world.publish(replace(with_fallbacks("nobody"), available="False", reason="Starting"))
    wait_until(
        lambda: world.gateway.transcribe(MODEL, file()).status == 503,
        seconds=10,
        what="the fallback is gone",
        every=0.05,
    )
    refused = world.gateway.transcribe(MODEL, file())
    assert refused.error["message"].startswith("Engine 'first' is not currently running")


@pytest.mark.parametrize(
    ("answer", "trigger"),
    [
        (scripts.hang_up, "Error"),
        (scripts.answering(500, {"error": "broken"}), "Error"),
        (scripts.answering(429, {"error": "too many"}), "RateLimited"),
        (scripts.answering(503, {"error": "away"}), "Unavailable"),
        pytest.param(scripts.never, "Timeout", marks=pytest.mark.impatient),
    ],
    ids=["dies", "fails", "has had enough", "is away", "says nothing"],
)
def test_a_model_that_fails_before_the_first_byte(
    world: World, second: ScriptedEngine, answer: Answer, trigger: str
) -> None:
    engine = world.engine()
    engine.answer = answer
    world.serve(with_fallbacks({"model": "second", "when": [trigger]}), engine)
    with_file_first = (file(), MODEL)  # it waits on disk, so that it can be sent again
    reply = world.gateway.transcribe(*with_file_first)
    assert (reply.status, reply.headers["x-roundhouse-model"]) == (200, "second")
    (received,) = second.requests
    assert received.file_size == len(AUDIO)


def test_a_trouble_that_the_rule_does_not_name(world: World, second: ScriptedEngine) -> None:
    engine = world.engine()
    engine.answer = scripts.answering(500, {"error": "broken"})
    world.serve(with_fallbacks({"model": "second", "when": ["Timeout"]}), engine)
    reply = world.gateway.transcribe(file(), MODEL)
    assert (reply.status, reply.headers["x-roundhouse-model"]) == (500, "first")
    assert second.requests == []


def test_what_the_client_did_wrong_is_nobody_elses_to_answer(world: World, second: ScriptedEngine) -> None:
    engine = world.engine()
    engine.answer = scripts.answering(400, {"error": {"message": "no audio", "code": "audio_unreadable"}})
    world.serve(with_fallbacks("second"), engine)
    assert world.gateway.transcribe(file(), MODEL).error["code"] == "audio_unreadable"
    assert second.requests == []


def test_an_upload_that_is_used_up_is_not_asked_for_again(world: World, second: ScriptedEngine) -> None:
    engine = world.engine()
    engine.answer = scripts.answering(500, {"error": "broken"})
    world.serve(with_fallbacks("second"), engine)
    reply = world.gateway.transcribe(MODEL, file())
    assert (reply.status, reply.headers["x-roundhouse-model"]) == (500, "first")
    assert second.requests == []


def test_an_answer_that_breaks_off_is_not_taken_up_by_another(world: World, second: ScriptedEngine) -> None:
    engine = world.engine()
    engine.answer = scripts.hang_up_midway
    world.serve(with_fallbacks("second"), engine)
    with pytest.raises(openai.APIConnectionError):
        world.gateway.openai().audio.transcriptions.create(model="first", file=("a.wav", AUDIO))
    assert second.requests == []


def test_a_full_model_goes_to_its_fallback_without_a_wait(world: World, second: ScriptedEngine) -> None:
    engine = world.engine()
    engine.admit = scripts.refusing(429, "full")
    world.serve(replace(with_fallbacks("second"), hold_seconds=30), engine)
    reply = world.gateway.transcribe(MODEL, file())
    assert (reply.status, reply.headers["x-roundhouse-model"]) == (200, "second")
    assert second.requests[0].complete


def test_by_the_gateways_own_count_too(world: World, second: ScriptedEngine) -> None:
    engine = world.engine()
    gate = Gate(engine)
    world.serve(replace(with_fallbacks("second"), hold_seconds=30, max_in_flight=1), engine)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.gateway.transcribe, MODEL, file())
        gate.wait_for(1)
        assert world.gateway.transcribe(MODEL, file()).headers["x-roundhouse-model"] == "second"
        gate.open()
        assert first.result().headers["x-roundhouse-model"] == "first"


def test_a_circle_comes_to_an_end(world: World) -> None:
    second = Variant("second", spec={"fallbacks": [{"model": "first"}]})
    for variant in (with_fallbacks("second"), second):
        world.publish(replace(variant, available="False", reason="Starting"))
    world.wait_for("second", "available")
    assert world.gateway.transcribe(MODEL, file()).error["code"] == "model_not_running"
    world.api.put("endpointslices", slice_of("second", world.engine().port))
    world.wait_for("second", "running")
    assert world.gateway.transcribe(MODEL, file()).headers["x-roundhouse-model"] == "second"


def test_auto_goes_on_where_an_engine_is_full(world: World, second: ScriptedEngine) -> None:
    engine = world.engine()
    engine.admit = scripts.refusing(429, "full")
    world.serve(Variant("first", real_time_factor="0.01"), engine)
    reply = world.gateway.transcribe(file())
    assert (reply.status, reply.headers["x-roundhouse-model"]) == (200, "second")
