"""Answers of the audio routes are valid by OpenAI's schemas, whichever dialect the engine speaks."""

import json

import pytest

from tests.conformance.gateway.client import FORM_TYPE, Reply, field, file, form
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.dialect_engines import speaches, vllm
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import Answer, transcript
from tests.support.openai_schema import assert_valid

BOTH = ("Translation", "Diarization")
ENGINES = {
    "Roundhouse": (Variant("m", features=BOTH), transcript),
    "VLLM": (Variant("m", dialect="VLLM", word_timestamps="None", features=("Translation",)), vllm),
    "Speaches": (Variant("m", dialect="Speaches", features=BOTH), speaches),
}


@pytest.fixture(params=ENGINES)
def published(request: pytest.FixtureRequest, world: World) -> World:
    variant, answer = ENGINES[request.param]
    engine = world.serve(variant)
    made: Answer = answer
    engine.answer = made
    return world


def ask(world: World, task: str, **fields: str) -> Reply:
    parts = [field(name, value) for name, value in {"model": "m", **fields}.items()]
    return world.gateway.request("POST", f"/v1/audio/{task}", form(*parts, file()), FORM_TYPE)


def test_whole_answers(published: World) -> None:
    for task, name in (("transcriptions", "Transcription"), ("translations", "Translation")):
        assert_valid(f"Create{name}ResponseJson", ask(published, task).json)
        verbose = ask(published, task, response_format="verbose_json").json
        assert_valid(f"Create{name}ResponseVerboseJson", verbose)


def test_streams(published: World) -> None:
    reply = ask(published, "transcriptions", stream="true")
    events = [json.loads(event[6:]) for event in reply.body.decode().split("\n\n") if event]
    assert events[-1]["type"] == "transcript.text.done"
    for event in events:
        assert_valid("CreateTranscriptionResponseStreamEvent", event)


def test_speakers(world: World) -> None:
    engine = world.serve(ENGINES["Speaches"][0])
    engine.answer = speaches
    body = ask(world, "transcriptions", response_format="diarized_json").json
    assert_valid("CreateTranscriptionResponseDiarizedJson", body)


def test_errors(published: World) -> None:
    for asked in ({"temperature": "9"}, {"response_format": "docx"}, {"model": "nobody"}):
        reply = ask(published, "transcriptions", **asked)
        assert reply.status == 400
        assert_valid("ErrorResponse", reply.json)
