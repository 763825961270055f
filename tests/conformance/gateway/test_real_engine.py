"""The gateway in front of the engine that ships: both sides of their contract, with a person's voice."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conformance.gateway import client
from tests.conformance.gateway.client import field, file
from tests.conformance.gateway.conftest import World, free_port
from tests.conformance.gateway.manifests import Variant, engine, slice_of
from tests.support.recordings import GO_FORWARD_WORDS, go_forward
from tests.support.waiting import wait_until

VARIANT = Variant("sphinx", "pocketsphinx-en", languages=("en",), model_name="sphinx")
MODEL = field("model", "pocketsphinx-en")


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
        process.wait(30)


@pytest.fixture
def served(world: World, sphinx: int) -> World:
    world.api.put("engines", engine())
    world.api.put("endpointslices", slice_of("sphinx", sphinx))
    world.publish(VARIANT)
    world.wait_for(VARIANT.id, "running")
    return world


def test_a_persons_words(served: World) -> None:
    answer = served.gateway.openai().audio.transcriptions.create(
        model="auto", file=("goforward.wav", go_forward()), language="en"
    )
    assert answer.text.lower().strip(" .") == GO_FORWARD_WORDS


def test_words_and_segments_with_their_times(served: World) -> None:
    answer = served.gateway.openai().audio.transcriptions.create(
        model=VARIANT.id,
        file=("goforward.wav", go_forward()),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert answer.words is not None
    assert [word.word.lower() for word in answer.words] == GO_FORWARD_WORDS.split()
    assert answer.segments


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
