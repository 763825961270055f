"""The gateway in front of the engine that ships: both sides of their contract, with a person's voice."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from elevenlabs import ElevenLabs

from tests.conformance.gateway import client
from tests.conformance.gateway.client import field, file
from tests.conformance.gateway.conftest import World, a_world
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.subtitles import parse_srt, parse_vtt
from tests.support.openai_schema import assert_valid
from tests.support.ports import free_port
from tests.support.recordings import GO_FORWARD_WORDS, go_forward
from tests.support.waiting import wait_until

VARIANT = Variant("sphinx", "pocketsphinx-en", languages=("en",), model_name="sphinx")
MODEL = field("model", "pocketsphinx-en")


def recording() -> tuple[str, bytes]:
    return "goforward.wav", go_forward()


@pytest.fixture(scope="module")
def sphinx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real pocketsphinx engine."""
    port = free_port()
    models = [{"name": "sphinx", "path": None, "source": {"type": "Builtin"}, "variant": "sphinx"}]
    environment = {**os.environ, "ROUNDHOUSE_MODELS": json.dumps(models), "ROUNDHOUSE_PORT": str(port)}
    log = tmp_path_factory.mktemp("engine") / "engine.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "roundhouse_pocketsphinx"], env=environment, stdout=output, stderr=output
        )

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return client.request(port, "GET", "/health/ready").status == 200
        except ConnectionError:
            return False

    try:
        wait_until(ready, seconds=60, what="the engine is ready")
        yield port
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def served(loop_thread: LoopThread, sphinx: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway of its own, because real work takes its time on a busy machine."""
    patient = {"ENGINE_IDLE_SECONDS": "120", "CLIENT_IDLE_SECONDS": "60"}
    with a_world(loop_thread, tmp_path_factory.mktemp("real"), patient) as world:
        world.run(VARIANT, sphinx)
        yield world


def test_a_persons_words(served: World) -> None:
    answer = served.gateway.openai().audio.transcriptions.create(
        model="auto", file=recording(), language="en", extra_body={"user": "unknown to all"}
    )
    assert answer.text.lower().strip(" .") == GO_FORWARD_WORDS
    assert answer.usage is not None
    assert answer.usage.to_dict() == {"type": "duration", "seconds": 3}


def test_words_and_segments_with_their_times(served: World) -> None:
    answer = served.gateway.openai().audio.transcriptions.create(
        model=VARIANT.id,
        file=recording(),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert answer.words is not None
    assert [word.word.lower() for word in answer.words] == GO_FORWARD_WORDS.split()
    assert answer.segments
    assert (answer.language, 2 < answer.duration < 4) == ("english", True)


def test_subtitles(served: World) -> None:
    create = served.gateway.openai().audio.transcriptions.create
    for cues in (
        parse_srt(create(model=VARIANT.id, file=recording(), response_format="srt")),
        parse_vtt(create(model=VARIANT.id, file=recording(), response_format="vtt")),
    ):
        (cue,) = cues
        assert cue.text.lower() == GO_FORWARD_WORDS
        assert 0 <= cue.start < cue.end < 4


async def test_a_streamed_transcript(served: World) -> None:
    async with openai.AsyncOpenAI(base_url=served.gateway.base_url, api_key="x", max_retries=0) as api:
        stream = await api.audio.transcriptions.create(model=VARIANT.id, file=recording(), stream=True)
        events = [event.to_dict() async for event in stream]
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert "".join(str(event["delta"]) for event in deltas) == done["text"] == GO_FORWARD_WORDS
    assert done["duration"] == pytest.approx(2.6, abs=0.3)
    for event in events:
        assert_valid("CreateTranscriptionResponseStreamEvent", event)


def test_elevenlabs_client(served: World) -> None:
    with httpx.Client(timeout=120) as connections:
        eleven = ElevenLabs(
            base_url=f"http://127.0.0.1:{served.gateway.port}", api_key="x", httpx_client=connections
        )
        samples = eleven.speech_to_text.convert(
            model_id="scribe_v2", file=go_forward()[44:], file_format="pcm_s16le_16"
        )
        answer = eleven.speech_to_text.convert(model_id="scribe_v2", file=recording()).model_dump()
    assert (answer["text"], answer["language_code"]) == (GO_FORWARD_WORDS, "eng")
    assert [word["text"] for word in answer["words"]][::2] == GO_FORWARD_WORDS.split()
    times = [edge for word in answer["words"] for edge in (word["start"], word["end"])]
    assert times == sorted(times)
    assert samples.model_dump()["words"] == answer["words"], "bare samples are the same recording"


def test_curl_with_the_file_first(served: World, tmp_path: Path) -> None:
    audio = tmp_path / "goforward.wav"
    audio.write_bytes(go_forward())
    root = f"http://127.0.0.1:{served.gateway.port}"
    for path, named in (("/v1/audio/transcriptions", "model=auto"), ("/v1/speech-to-text", "model_id=any")):
        done = subprocess.run(
            ["curl", "-sS", "--fail-with-body", root + path, "-F", f"file=@{audio}", "-F", named],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout)["text"] == GO_FORWARD_WORDS


def test_text_from_a_form_whose_file_comes_first(served: World) -> None:
    reply = served.gateway.transcribe(file(go_forward()), field("response_format", "text"), MODEL)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain")
    assert GO_FORWARD_WORDS in reply.body.decode().lower()


def test_the_engines_refusal_of_what_is_no_audio_passes(served: World) -> None:
    reply = served.gateway.transcribe(MODEL, file(b"this is not audio at all" * 100))
    assert reply.status == 400
    assert set(reply.json["error"]) == {"message", "type", "param", "code"}
    assert reply.headers["x-roundhouse-model"] == VARIANT.id
