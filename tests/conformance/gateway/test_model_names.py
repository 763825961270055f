"""What answers call a model: the id that clients ask for, whatever the engine's own name for it is."""

import json
from collections.abc import Iterator

import openai
import pytest

from tests.conformance.engine.running import Engine, running
from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.client import field, file
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant

OWN = "chat.tar"
"""The engine's name, as of a file that was fetched."""
CHAT = Variant("qwen", "Qwen/qwen2.5-0.5b", stage="Chat", languages=None, model_name=OWN, aliases=("small",))
EMBED = Variant("nomic", stage="Embed", languages=None, model_name=OWN)
HEADER = "x-roundhouse-model"


def an_engine(kind: str, factory: pytest.TempPathFactory) -> Iterator[Engine]:
    arguments = ("-m", "tests.conformance.engine.text_handlers", kind)
    with running(arguments, factory.mktemp("named"), MODELS=OWN) as engine:
        engine.until_ready()
        yield engine


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    yield from an_engine("WriterThreaded", tmp_path_factory)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    yield from an_engine("VectorsThreaded", tmp_path_factory)


def test_conversations_name_the_public_id(either_world: World, writer: Engine) -> None:
    either_world.run(CHAT, writer.port)
    with either_world.gateway.openai() as api:
        for name in (CHAT.id, "small", CHAT.id):  # the second finds a connection that was kept
            whole = api.chat.completions.create(model=name, messages=[{"role": "user", "content": "hi"}])
            assert whole.model == CHAT.id
        assert api.completions.create(model=CHAT.id, prompt="hi").model == CHAT.id
        stream = api.chat.completions.create(
            model=CHAT.id, messages=[{"role": "user", "content": "one two"}], stream=True
        )
        assert {event.model for event in stream} == {CHAT.id}
        with pytest.raises(openai.BadRequestError, match=f"The model '{CHAT.id}' calls no tools here"):
            api.chat.completions.create(
                model=CHAT.id,
                messages=[{"role": "user", "content": "hi"}],
                tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
            )


def test_vectors_name_the_public_id(either_world: World, vectors: Engine) -> None:
    either_world.run(EMBED, vectors.port)
    with either_world.gateway.openai() as api:
        for _ in range(2):
            assert api.embeddings.create(model=EMBED.id, input="one two").model == EMBED.id


@pytest.mark.parametrize(("dialect", "told"), [("Roundhouse", CHAT.id), ("VLLM", None), ("OpenAI", None)])
def test_engines_of_others_are_told_nothing_and_clients_tell_nothing(
    dialect: str, told: str | None, either_world: World
) -> None:
    chat = Variant("qwen", CHAT.id, stage="Chat", languages=None, model_name=OWN, dialect=dialect)
    heard = Variant("heard", dialect=dialect)
    engine, listener = either_world.serve(chat), either_world.serve(heard)
    engine.answer = scripts.chat
    body = json.dumps({"model": CHAT.id, "messages": []}).encode()
    for _ in range(2):
        reply = either_world.gateway.request(
            "POST", "/v1/chat/completions", body, {"X-Roundhouse-Model": "forged"}
        )
        assert reply.json["model"] == OWN, "the answers of others pass as they are"
        assert reply.headers[HEADER] == CHAT.id
    assert [each.headers.get(HEADER) for each in engine.requests] == [told] * 2
    reply = either_world.gateway.transcribe(field("model", "heard"), file())
    assert reply.status == 200
    assert [each.headers.get(HEADER) for each in listener.requests] == [told and "heard"]


@pytest.mark.parametrize("told", ["", "two words", "caf\u00e9", "x" * 257])
def test_a_name_that_could_not_be_shown_is_none(told: str, writer: Engine) -> None:
    body = json.dumps({"model": OWN, "messages": [{"role": "user", "content": "hi"}]})
    assert writer.request("POST", "/v1/chat/completions", body, {HEADER: told}).json["model"] == OWN


def test_a_stream_that_fails_names_the_public_id(writer: Engine) -> None:
    body = json.dumps({"model": OWN, "messages": [{"role": "user", "content": "break"}], "stream": True})
    said = writer.request("POST", "/v1/chat/completions", body, {HEADER: CHAT.id}).body.decode()
    assert f"The model '{CHAT.id}' lost its thread." in said
    assert OWN not in said
