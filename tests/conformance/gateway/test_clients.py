"""The official OpenAI client and curl against the gateway."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from tests.conformance.gateway.client import AUDIO
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import TEXT

WHISPER = Variant("whisper", served_name="Systran/faster-whisper-base.en", aliases=("fast",))


@pytest.mark.req("S0-1", "S0-12", "S1-3", "S1-10", "S2-26")
def test_the_client_lists_and_retrieves_models_whose_ids_hold_slashes(world: World) -> None:
    world.serve(WHISPER)
    api = world.gateway.openai()
    assert [model.id for model in api.models.list()] == [WHISPER.id]
    found = api.models.retrieve(WHISPER.id)
    assert (found.id, found.object, found.owned_by) == (WHISPER.id, "model", "local")
    assert api.models.retrieve("fast").id == WHISPER.id


@pytest.mark.req("S0-9", "S0-21", "S1-8")
def test_json_is_the_default(world: World) -> None:
    engine = world.serve(WHISPER)
    answer = world.gateway.openai().audio.transcriptions.with_raw_response.create(
        model=WHISPER.id, file=("speech.wav", AUDIO), language="en", prompt="ten", temperature=0.2
    )
    assert answer.parse().text == TEXT
    assert answer.headers["x-roundhouse-model"] == WHISPER.id
    (received,) = engine.requests
    assert received.model == "engine-whisper"
    assert dict(received.fields) | {"model": ""} == {
        "model": "",
        "language": "en",
        "prompt": "ten",
        "temperature": "0.2",
    }
    assert (received.filename, received.file_size) == ("speech.wav", len(AUDIO))


def test_text(world: World) -> None:
    world.serve(WHISPER)
    answer = world.gateway.openai().audio.transcriptions.create(
        model=WHISPER.id, file=("speech.wav", AUDIO), response_format="text"
    )
    assert answer == TEXT + "\n"


def test_verbose_json_with_both_granularities(world: World) -> None:
    engine = world.serve(WHISPER)
    answer = world.gateway.openai().audio.transcriptions.create(
        model="fast",
        file=("speech.wav", AUDIO),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert answer.words is not None
    assert answer.words[0].word == "go"
    assert answer.segments is not None
    assert answer.segments[0].text.strip() == TEXT
    sent = [value for name, value in engine.requests[0].fields if name == "timestamp_granularities[]"]
    assert sent == ["word", "segment"]


async def test_the_asynchronous_client(world: World) -> None:
    world.serve(WHISPER)
    async with openai.AsyncOpenAI(base_url=world.gateway.base_url, api_key="x", max_retries=0) as api:
        models = await api.models.list()
        assert [model.id for model in models.data] == [WHISPER.id]
        answer = await api.audio.transcriptions.create(model="auto", file=("speech.wav", AUDIO))
        assert answer.text == TEXT


@pytest.mark.req("S1-16", "S1-17", "S1-18")
def test_errors_arrive_as_the_clients_own(world: World) -> None:
    world.publish(Variant("asleep", available="False", reason="ScaledToZero", replicas=0))
    world.wait_for("asleep", "available")
    transcriptions = world.gateway.openai().audio.transcriptions
    with pytest.raises(openai.BadRequestError, match="Engine 'nonesuch' not found") as unknown:
        transcriptions.create(model="nonesuch", file=("speech.wav", AUDIO))
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert unknown.value.type == "invalid_request_error"
    with pytest.raises(openai.InternalServerError, match="is not currently running") as asleep:
        transcriptions.create(model="asleep", file=("speech.wav", AUDIO))
    assert (asleep.value.status_code, asleep.value.type) == (503, "service_unavailable")
    with pytest.raises(openai.InternalServerError, match="No engine available for stage 'transcribe'"):
        transcriptions.create(model="auto", file=("speech.wav", AUDIO))
    with pytest.raises(openai.NotFoundError, match="Model not found: org/nonesuch") as absent:
        world.gateway.openai().models.retrieve("org/nonesuch")
    assert absent.value.code == "model_not_found"


Parts = Callable[[Path], list[str]]


@pytest.mark.parametrize(
    "parts",
    [
        lambda audio: ["-F", f"file=@{audio}", "-F", "model=fast"],
        lambda audio: ["-F", "model=fast", "-F", f"file=@{audio}"],
        lambda audio: ["-F", f"file=@{audio}"],
        lambda audio: ["-F", f"file=@{audio}", "-F", "model=", "-F", "language=en"],
    ],
    ids=["file-first", "model-first", "no-model", "empty-model"],
)
def test_curl(world: World, tmp_path: Path, parts: Parts) -> None:
    engine = world.serve(WHISPER)
    audio = tmp_path / "speech.wav"
    audio.write_bytes(AUDIO * 200)
    url = f"{world.gateway.base_url}/audio/transcriptions"
    done = subprocess.run(
        ["curl", "-sS", "--fail-with-body", url, *parts(audio)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["text"] == TEXT
    (received,) = engine.requests
    assert received.complete
    assert received.model == "engine-whisper"
    assert received.file_size == len(AUDIO) * 200
