"""Who waits with whom: keys among each other, and clients of streams while nothing comes yet."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse

import openai
import pytest

from roundhouse_api.keys import Grant
from tests.conformance.gateway import client
from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway.client import FORM_TYPE, file, form
from tests.conformance.gateway.client import field as text
from tests.conformance.gateway.conftest import World, a_world
from tests.conformance.gateway.keys import KEYS, hand_to_owner, issue_to
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Variant, slice_of
from tests.support.waiting import wait_until

Start = Callable[[Mapping[str, str]], World]
SLEEPER = Variant("sleeper", dialect="OpenAI")
STREAMED = form(text("model", "sleeper"), text("stream", "true"), file())
COMMENT = b": waiting for the model\n"


def held(world: World) -> float:
    return world.gateway.metric("roundhouse_gateway_held_requests", model="sleeper")


def wait_until_held(world: World, count: int) -> None:
    wait_until(lambda: held(world) == count, seconds=10, what=f"{count} wait", every=0.02)


@pytest.fixture(scope="module")
def chatty(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(loop_thread, tmp_path_factory.mktemp("chatty"), {"HOLD_COMMENT_SECONDS": "0.1"}) as made:
        yield made


@pytest.fixture
def patient(chatty: World) -> Iterator[World]:
    """A gateway that comments often, with a model that sleeps."""
    chatty.publish(replace(SLEEPER, hold_seconds=30).asleep())
    chatty.wait_for("sleeper", "available")
    yield chatty
    chatty.clear()


def begin(world: World, body: bytes) -> tuple[HTTPConnection, HTTPResponse]:
    """A request whose answer has begun: what follows is to be read."""
    connection = HTTPConnection("127.0.0.1", world.gateway.port, timeout=60)
    connection.request("POST", "/v1/audio/transcriptions", body, FORM_TYPE)
    return connection, connection.getresponse()


def test_a_client_of_a_stream_hears_that_it_waits_and_then_its_transcript(patient: World) -> None:
    connection, response = begin(patient, STREAMED)
    assert response.status == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-roundhouse-model"] == "sleeper"
    assert [response.readline(), response.readline(), response.readline()] == [COMMENT, b"\n", COMMENT]
    patient.api.put("endpointslices", slice_of("sleeper", patient.engine().port))
    lines = response.read().splitlines()
    connection.close()
    events = [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]
    assert events[-1]["text"] == scripts.TEXT
    assert {event["type"] for event in events} == {"transcript.text.delta", "transcript.text.done"}


def test_the_official_client_takes_it_for_any_other_stream(patient: World) -> None:
    create = patient.gateway.openai().audio.transcriptions.create
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: list(create(model="sleeper", file=("a.wav", b"x"), stream=True)))
        wait_until_held(patient, 1)
        time.sleep(0.3)  # for comments to come before the first event
        patient.api.put("endpointslices", slice_of("sleeper", patient.engine().port))
        *deltas, done = asked.result()
    assert done.to_dict()["text"] == scripts.TEXT
    assert deltas


def test_an_error_after_the_first_comment_is_an_event(patient: World) -> None:
    with ThreadPoolExecutor(1) as pool:
        create = patient.gateway.openai().audio.transcriptions.create
        asked = pool.submit(lambda: list(create(model="sleeper", file=("a.wav", b"x"), stream=True)))
        connection, response = begin(patient, STREAMED)
        assert response.readline() == COMMENT
        wait_until_held(patient, 2)
        patient.publish(replace(SLEEPER, hold_seconds=30, spec={"suspend": True}).asleep())
        parts = map(bytes.strip, response.read().split(b"\n\n"))
        events = [part for part in parts if part and not part.startswith(b":")]
        connection.close()
        with pytest.raises(openai.APIError, match="Engine 'sleeper' is not currently running"):
            asked.result()
    (event,) = events
    name, data = event.splitlines()
    assert name == b"event: error"
    error = json.loads(data.removeprefix(b"data: "))["error"]
    assert (error["type"], error["code"]) == ("service_unavailable", "model_not_running")


def test_an_error_before_it_has_its_status(own_world: Start) -> None:
    world = own_world({"HOLD_COMMENT_SECONDS": "30"})
    world.publish(replace(SLEEPER, hold_seconds=1).asleep())
    world.wait_for("sleeper", "available")
    create = world.gateway.openai().audio.transcriptions.create
    with pytest.raises(openai.InternalServerError, match="within 1 seconds") as refused:
        create(model="sleeper", file=("a.wav", b"x"), stream=True)
    assert refused.value.status_code == 503


def test_a_client_that_leaves_while_it_is_commented_to_frees_its_place_at_once(patient: World) -> None:
    connection, response = begin(patient, STREAMED)
    assert response.readline() == COMMENT
    wait_until_held(patient, 1)
    response.close()
    connection.close()
    wait_until_held(patient, 0)


def test_who_asked_for_no_stream_is_not_commented_to(patient: World) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(patient.gateway.transcribe, text("model", "sleeper"), file())
        wait_until_held(patient, 1)
        time.sleep(0.3)  # for comments that must not come
        patient.api.put("endpointslices", slice_of("sleeper", patient.engine().port))
        assert asked.result().json["text"] == scripts.TEXT


def test_keys_take_turns_and_none_fills_the_line(own_world: Start) -> None:
    world = own_world({"KEYS_NAMESPACE": KEYS, "HOLD_LIMIT_PER_VARIANT": "4"})
    owner = hand_to_owner(world)
    world.publish(replace(SLEEPER, hold_seconds=60, max_in_flight=1).asleep())
    world.wait_for("sleeper", "available")
    modest = issue_to(world, Grant(name="modest"))
    engine = world.engine()
    engine.answer = scripts.after(0.2)

    def ask(key: str, name: str) -> client.Reply:
        parts = (text("model", "sleeper"), text("prompt", name), file())
        return world.gateway.transcribe(*parts, headers={"Authorization": f"Bearer {key}"})

    with ThreadPoolExecutor(6) as pool:
        greedy = []
        for number in range(4):
            greedy.append(pool.submit(ask, owner.text, f"greedy-{number}"))
            wait_until_held(world, number + 1)
        refused = ask(owner.text, "greedy-4")
        assert (refused.status, refused.error["code"]) == (429, "hold_full")
        assert int(refused.headers["retry-after"]) >= 1
        asked = pool.submit(ask, modest, "modest")
        assert greedy[3].result().status == 429, "it makes room for the other key"
        wait_until_held(world, 4)
        world.api.put("endpointslices", slice_of("sleeper", engine.port))
        assert [one.result().status for one in (*greedy[:3], asked)] == [200] * 4
    prompts = [dict(received.fields)["prompt"] for received in engine.requests]
    assert prompts == ["greedy-0", "modest", "greedy-1", "greedy-2"]
