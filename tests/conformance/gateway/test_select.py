"""What the gateway tells of the choices that it would make, and that it makes them so."""

from dataclasses import dataclass

import pytest

from tests.conformance.gateway.client import field as text
from tests.conformance.gateway.client import file
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Manifest, Variant

MANY = Variant("many", languages=("en", "hr"), word_timestamps="Alignment", real_time_factor="0.1")
ENGLISH = Variant("english", languages=("en",), real_time_factor="0.01", spec={"selection": {"priority": 3}})
STREAMER = Variant("streamer", interfaces=("Batch", "Realtime"), streaming="Native", real_time_factor="5")
CHEAP = Variant(
    "cheap",
    stage="Chat",
    languages=None,
    spec={"selection": {"costTiers": ["Budget"], "classes": ["fast"], "priority": -5}},
)
CLEVER = Variant(
    "clever",
    stage="Chat",
    languages=None,
    spec={"selection": {"costTiers": ["Premium"], "classes": ["quality"]}},
)


@pytest.fixture
def house(world: World) -> World:
    for variant in (MANY, ENGLISH, STREAMER, CHEAP, CLEVER):
        world.serve(variant)
    world.publish(Variant("stopped", available="False", reason="ScaledToZero", replicas=0))
    world.wait_for("stopped", "available")
    return world


@dataclass(frozen=True)
class Case:
    query: str
    chosen: str
    passed_over: dict[str, str]


CASES = (
    Case("", "many", {"english": "one_language", "stopped": "not_running", "cheap": "stage"}),
    Case("stage=transcribe&language=en", "english", {"stopped": "not_running"}),
    Case("language=en-GB&tier=fast", "english", {}),
    Case("language=hr", "many", {"english": "language"}),
    Case("language=hr&word_timestamps=true", "streamer", {"english": "language"}),
    Case("streaming=true", "streamer", {"many": "streaming", "english": "streaming"}),
    Case("interface=realtime", "streamer", {"many": "interface"}),
    Case("stage=chat&task=classification", "clever", {"many": "stage"}),
    Case("stage=chat&task=summarization", "cheap", {}),
    Case("stage=chat&tier=budget&task=classification", "cheap", {}),
    Case("stage=Chat&tier=BUDGET", "cheap", {}),
)


@pytest.mark.req("S1-2", "S1-6", "S1-22", "S1-23")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.query)
def test_what_auto_would_choose_and_why_not_another(house: World, case: Case) -> None:
    told = house.gateway.get(f"/v1/select?{case.query}").json
    assert (told["model"], told["wakes"], told["message"], told["total"]) == (case.chosen, None, None, 6)
    first, *others = told["candidates"]
    assert (first["id"], first["verdict"], first["reason"]) == (case.chosen, "chosen", None)
    reasons = {each["id"]: each["reason"] for each in others if each["verdict"] == "passed_over"}
    assert reasons | case.passed_over == reasons
    assert all(each["message"].startswith(f"Model '{each['id']}' ") for each in others if each["reason"])


@pytest.mark.parametrize(
    ("query", "fields"),
    [("", ()), ("language=en", (text("language", "en"),)), ("streaming=true", (text("streaming", "true"),))],
)
def test_auto_does_what_was_told(house: World, query: str, fields: tuple[bytes, ...]) -> None:
    told = house.gateway.get(f"/v1/select?{query}").json
    reply = house.gateway.transcribe(text("model", "auto"), *fields, file())
    assert reply.headers["x-roundhouse-model"] == told["model"]


@pytest.mark.req("S1-18")
def test_what_a_request_would_be_told_where_nothing_fits(house: World) -> None:
    told = house.gateway.get("/v1/select?language=de").json
    assert (told["model"], told["wakes"]) == (None, None)
    reply = house.gateway.transcribe(text("language", "de"), file())
    assert told["message"] == reply.error["message"]
    assert told["message"] == "No engine available for stage 'transcribe' with language 'de'"
    assert {each["verdict"] for each in told["candidates"]} == {"passed_over"}


def test_english_alone_is_no_answer_to_unknown_speech_while_another_model_is_known(world: World) -> None:
    world.serve(ENGLISH)
    assert world.gateway.transcribe(file()).headers["x-roundhouse-model"] == "english", "the house is English"
    world.publish(Variant("many", available="False", reason="ScaledToZero", replicas=0))
    world.wait_for("many", "available")
    refused = world.gateway.transcribe(file())
    assert (refused.status, refused.error["code"]) == (503, "no_engine_available")
    assert refused.error["message"].endswith("say which language is spoken")
    reply = world.gateway.transcribe(text("language", "en"), file())
    assert reply.headers["x-roundhouse-model"] == "english"


def test_who_would_be_woken(world: World) -> None:
    world.serve(ENGLISH)
    world.publish(Variant("sleeper", languages=("hr",)).asleep())
    world.wait_for("sleeper", "available")
    told = world.gateway.get("/v1/select?language=hr").json
    assert (told["model"], told["wakes"]) == (None, "sleeper")
    assert world.gateway.metric("roundhouse_gateway_held_requests", model="sleeper") == 0


def test_only_so_many_are_shown(house: World) -> None:
    told = house.gateway.get("/v1/select?limit=2").json
    assert ([each["id"] for each in told["candidates"]], told["total"]) == (["many", "streamer"], 6)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("stage=telepathy", "stage"),
        ("tier=cheapest", "tier"),
        ("task=poetry", "task"),
        ("feature=smell", "feature"),
        ("limit=0", "limit"),
        ("language=" + "x" * 99, "language"),
        ("streaming=perhaps", "streaming"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(world: World, query: str, param: str) -> None:
    reply = world.gateway.get(f"/v1/select?{query}")
    error: Manifest = reply.error
    assert (reply.status, error["type"]) == (400, "invalid_request_error")
    assert param in error["message"] or error["param"] == param
