"""What the gateway tells of the choices that it would make, and that it makes them so."""

import json
from dataclasses import dataclass

import pytest

from tests.conformance.gateway import client
from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.client import field as text
from tests.conformance.gateway.client import file
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Manifest, Variant

JSON = {"Content-Type": "application/json"}
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
    Case("stage=chat&class=fast", "cheap", {}),
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


@pytest.mark.req("S4-5", "S4-6", "S4-9")
@pytest.mark.parametrize(
    "query",
    [
        "task=classification",
        "task=summarization",
        "tier=budget&task=classification",
        "class=fast",
        "class=fast&class=cheerful",
        "",
    ],
)
def test_json_routes_choose_by_the_same_words(house: World, query: str) -> None:
    told = house.gateway.get(f"/v1/select?stage=chat&{query}").json
    for engine in house.engines:
        engine.answer = scripts.chat
    body = json.dumps({"model": "auto", "messages": [], "task": "the engine's own"}).encode()
    reply = house.gateway.request("POST", f"/v1/chat/completions?{query}", body, JSON)
    assert reply.headers["x-roundhouse-model"] == told["model"]
    (received,) = [each for engine in house.engines for each in engine.requests]
    assert received.json["task"] == "the engine's own"


def test_the_official_client_says_its_task(house: World) -> None:
    for engine in house.engines:
        engine.answer = scripts.chat
    chat = house.gateway.openai().chat.completions.with_raw_response
    for task, chosen in (("extraction", "cheap"), ("diarization", "clever")):
        said = chat.create(model="auto", messages=[], extra_query={"task": task})
        assert said.headers["x-roundhouse-model"] == chosen


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations", "/v1/speech-to-text"])
def test_speech_routes_choose_by_the_same_words(path: str, world: World) -> None:
    for name, classes in (("plain", []), ("better", ["quality"])):
        spec = {"selection": {"classes": classes, "priority": -len(classes)}}
        world.serve(Variant(name, features=("Translation",), spec=spec))
    for query, chosen in (("", "plain"), ("?task=diarization", "better"), ("?class=quality", "better")):
        body = client.form(text("model_id", "scribe_v1"), file())
        reply = world.gateway.request("POST", path + query, body, client.FORM_TYPE)
        assert (reply.status, reply.headers["x-roundhouse-model"]) == (200, chosen)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("task=poetry", "task"),
        ("tier=cheapest", "tier"),
        ("tier=fast&tier=budget", "tier"),
        ("class=" + "x" * 64, "class"),
    ],
)
def test_a_hint_that_is_wrong_is_named(query: str, param: str, house: World) -> None:
    body = json.dumps({"messages": []}).encode()
    for reply in (
        house.gateway.request("POST", f"/v1/chat/completions?{query}", body, JSON),
        house.gateway.request(
            "POST", f"/v1/audio/transcriptions?{query}", client.form(file()), client.FORM_TYPE
        ),
    ):
        assert (reply.status, reply.error["param"]) == (400, param)
        assert reply.error["message"]


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
