"""The llama.cpp engine as its container runs it, with a model of 500 KB that was made on the spot."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance.engine.conversations import said, tool
from tests.conformance.engine.counting import assert_counts_in_a_stream_up_to_its_limit
from tests.conformance.engine.holding import assert_nothing_stays, leave
from tests.conformance.engine.running import Answer, Engine, running
from tests.conformance.engine.stalling import assert_others_are_answered
from tests.support.gguf import write_model
from tests.support.waiting import wait_until

CHAT = "/v1/chat/completions"
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["a"],
    "additionalProperties": False,
}
DEEP = "root ::= " + "(" * 50_000 + '"a"' + ")" * 50_000
"""Ends the stack of llama.cpp's parser."""
OPTIONAL = {"type": "object", "properties": {f"p{number}": {"type": "null"} for number in range(2000)}}
"""Would be a grammar in a minute."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("weights") / "tiny.gguf").parent


def models(path: Path) -> str:
    return json.dumps([{"name": "m", "path": str(path), "source": {"type": "HuggingFace"}}])


@contextlib.contextmanager
def serving(kind: str, weights: Path, folder: Path, **variables: str) -> Iterator[Engine]:
    arguments = ("-m", "roundhouse_llama_cpp", kind)
    told = {"ROUNDHOUSE_MODELS": models(weights), "MODELS": "", "ROUNDHOUSE_LLAMA_THREADS": "1"}
    with running(arguments, folder, **told | variables) as engine:
        yield engine


@pytest.fixture(scope="module")
def llama(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with serving("chat", weights, tmp_path_factory.mktemp("llama"), ROUNDHOUSE_CAPACITY="2") as engine:
        engine.until_ready()
        yield engine


@pytest.fixture(scope="module")
def embedder(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with serving(
        "embeddings", weights, tmp_path_factory.mktemp("embedder"), ROUNDHOUSE_LLAMA_CONTEXT_TOKENS="256"
    ) as engine:
        engine.until_ready()
        yield engine


def post(engine: Engine, path: str = CHAT, **fields: Any) -> Answer:
    body = json.dumps({"model": "m", "temperature": 0} | fields)
    return engine.request("POST", path, body, {"Content-Type": "application/json"})


def test_it_says_what_the_model_knows(llama: Engine) -> None:
    with llama.client as client:
        found = client.chat.completions.create(model="m", messages=said("count"), temperature=0)
        assert (found.choices[0].message.content or "").split() == ["one", "two", "three"]
        assert found.choices[0].finish_reason == "stop"
        assert found.usage is not None
        assert found.usage.completion_tokens == 4  # with the end
        assert found.usage.prompt_tokens > 10


def test_a_stream_with_usage(llama: Engine) -> None:
    assert_counts_in_a_stream_up_to_its_limit(llama)


def test_a_field_of_a_message_that_is_null_counts_as_absent(llama: Engine) -> None:
    assert post(llama, messages=[said("count")[0] | {"name": None, "tool_calls": None}]).status == 200


def test_it_stops_at_a_sequence(llama: Engine) -> None:
    found = post(llama, messages=said("count"), stop=["two"])
    assert found.json["choices"][0]["message"]["content"].split() == ["one"]


def test_completions_go_on_after_the_prompt(llama: Engine) -> None:
    found = post(llama, "/v1/completions", prompt="count:")
    assert found.json["choices"][0]["text"].split() == ["one", "two", "three"]


@pytest.mark.parametrize("seed", [7, -1, (1 << 32) - 1, (1 << 63) - 1])
def test_a_seed_makes_chance_repeat_itself(llama: Engine, seed: int) -> None:
    def text() -> str:
        found = post(llama, messages=said("any"), temperature=2, seed=seed, max_tokens=8, top_p=1)
        return str(found.json["choices"][0]["message"]["content"])

    assert text() == text()


def test_an_answer_is_held_to_a_schema(llama: Engine) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    found = post(llama, messages=said("a"), response_format=wanted, max_tokens=60)
    assert json.loads(found.json["choices"][0]["message"]["content"])["a"] in range(10)


def test_an_answer_is_held_to_a_grammar(llama: Engine) -> None:
    found = post(llama, messages=said("a"), grammar='root ::= "yes" | "no"', temperature=1)
    assert found.json["choices"][0]["message"]["content"] in ("yes", "no")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": said("word " * 300)}, "messages", "context_length_exceeded"),
        ({"messages": said("word " * 10_000)}, "messages", "context_length_exceeded"),
        ({"messages": said("a") * 1000}, "messages", "context_length_exceeded"),
        ({"messages": said("a"), "grammar": "root ::= ("}, "grammar", "invalid_value"),
        ({"messages": said("a"), "grammar": '\0root ::= "a"'}, "grammar", "invalid_value"),
        ({"messages": said("a"), "grammar": DEEP}, "grammar", "invalid_value"),
        ({"messages": said("a"), "grammar": f'root ::= "{"a" * 70_000}"'}, "grammar", "invalid_value"),
        ({"messages": said("a"), "grammar": 5}, "grammar", "invalid_value"),
        ({"messages": said("a"), "tools": [1]}, "tools", "invalid_value"),
        ({"messages": said("a"), "tools": [tool("f")]}, "tools", "unsupported_value"),
        (
            {"messages": said("a"), "grammar": 'root ::= "a"', "response_format": {"type": "json_object"}},
            "grammar",
            "invalid_value",
        ),
        (
            {
                "messages": said("a"),
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"enum": ["a" * 200_000]}},
                },
            },
            "response_format",
            "invalid_value",
        ),
        (
            {
                "messages": said("a"),
                "response_format": {"type": "json_schema", "json_schema": {"schema": OPTIONAL}},
            },
            "response_format",
            "invalid_value",
        ),
        (
            {
                "messages": said("a"),
                "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "wat"}}},
            },
            "response_format",
            "invalid_value",
        ),
    ],
    ids=[
        "too long",
        "too long to be counted",
        "too many messages",
        "no grammar",
        "no character",
        "deep",
        "large",
        "no text",
        "no tool",
        "no tools",
        "two grammars",
        "large schema",
        "optional properties",
        "no schema",
    ],
)
def test_what_llama_cpp_refuses(llama: Engine, fields: Any, param: str, code: str) -> None:
    found = post(llama, **fields)
    assert (found.status, found.error["param"], found.error["code"]) == (400, param, code)
    ours, _, told = found.error["message"].partition(" llama.cpp says: ")
    assert ours.endswith("."), "what is wrong comes first, and the library's words last"
    assert not told.startswith(("Unable", "Automatic", "Failed")), told
    assert post(llama, messages=said("a")).status == 200


def test_clients_that_leave_leave_nothing_behind(llama: Engine) -> None:
    """What one of them made the model write colours no other's answer."""
    assert llama.capacity == 2

    def ask() -> None:
        for wrong in ({"messages": said("word " * 300)}, {"messages": said("a"), "grammar": "root ::= ("}):
            assert post(llama, **wrong).status == 400
        leave(llama, CHAT, model="m", messages=said("a"), stream=True, grammar='root ::= "a" root')
        found = post(llama, messages=said("count"))
        assert found.json["choices"][0]["message"]["content"].split() == ["one", "two", "three"]

    assert_nothing_stays(llama, ask, mebibytes=32)


def test_embeddings_that_are_refused_or_left_leave_nothing_behind(embedder: Engine) -> None:
    def ask() -> None:
        for wrong in (["a", "word " * 300], ["a", "word " * 70_000], [""]):
            assert post(embedder, "/v1/embeddings", input=wrong).status == 400
        leave(embedder, "/v1/embeddings", model="m", input=[" ".join(["word"] * 20)] * 1000)
        assert post(embedder, "/v1/embeddings", input="one").status == 200

    assert_nothing_stays(embedder, ask, mebibytes=32)


def test_others_are_answered_while_it_computes(llama: Engine, embedder: Engine) -> None:
    endless: dict[str, Any] = {"messages": said("a"), "grammar": 'root ::= "a" root', "max_tokens": 200}

    def written() -> None:
        assert all(post(llama, **endless).status == 200 for _ in range(20))

    def embedded() -> None:
        assert post(embedder, "/v1/embeddings", input=[" ".join(["word"] * 20)] * 500).status == 200

    assert_others_are_answered(llama, written)
    assert_others_are_answered(embedder, embedded)


def test_embeddings_are_of_length_one_and_repeat_themselves(embedder: Engine) -> None:
    with embedder.client as client:
        found = client.embeddings.create(model="m", input=["one", "w1 w2 w3", "one"])
    vectors = np.array([each.embedding for each in found.data])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    assert np.allclose(vectors[0], vectors[2], atol=1e-4)
    assert not np.allclose(vectors[0], vectors[1], atol=0.1)
    assert found.usage.prompt_tokens > 3


def test_texts_of_requests_share_calls(embedder: Engine) -> None:
    """Single ones that come while a thousand are computed find room in the calls of these."""
    many = [" ".join(["word"] * 10)] * 1000

    def calls(*others: str) -> float:
        before = embedder.metric("batches_total")
        with ThreadPoolExecutor(1 + len(others)) as clients:
            thousand = clients.submit(post, embedder, "/v1/embeddings", input=many)
            wait_until(
                lambda: embedder.metric("slots_computing") == 1, seconds=60, what="it computes", every=0.02
            )
            found = list(clients.map(lambda text: post(embedder, "/v1/embeddings", input=text), others))
            assert all(each.status == 200 for each in (*found, thousand.result()))
        return embedder.metric("batches_total") - before

    alone = calls()
    assert alone < 32
    assert calls(*(f"w{number}" for number in range(16))) <= alone + 2, "by themselves they are sixteen"


def test_a_text_that_is_too_long_is_named(embedder: Engine) -> None:
    found = post(embedder, "/v1/embeddings", input=["a", "word " * 300])
    assert (found.status, found.error["code"]) == (400, "context_length_exceeded")
    assert found.error["message"].startswith("input[1]: The text is ")


def _cut_off(folder: Path, weights: Path) -> None:
    whole = (weights / "tiny.gguf").read_bytes()
    (folder / "tiny.gguf").write_bytes(whole[: len(whole) // 2])


def _no_gguf(folder: Path, _: Path) -> None:
    (folder / "tiny.gguf").write_bytes(b"PK\x03\x04 not a model")


def _two(folder: Path, weights: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(weights / "tiny.gguf", folder / name)


def _part(folder: Path, weights: Path) -> None:
    shutil.copy(weights / "tiny.gguf", folder / "x-00001-of-00003.gguf")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_cut_off, "llama.cpp cannot load .*tiny.gguf.* cut off"),
        (_no_gguf, "is no GGUF file"),
        (_two, "must hold one GGUF model, and has a.gguf, b.gguf"),
        (_part, "x-00002-of-00003.gguf, x-00003-of-00003.gguf is missing"),
        (lambda *_: None, "must hold one GGUF model, and has none"),
    ],
    ids=["cut off", "no gguf", "two", "a part", "none"],
)
def test_weights_that_cannot_be_loaded_end_the_engine_with_the_reason(
    weights: Path, tmp_path: Path, spoil: Any, told: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    spoil(folder, weights)
    with serving("chat", folder, tmp_path) as engine:
        assert engine.ended() == 1
        assert re.search(told, engine.logged.splitlines()[-1]), engine.logged
