"""What ends llama.cpp, or keeps it busy for minutes, is refused; what it cannot load is told, and why."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from roundhouse_engine import ModelSpec
from roundhouse_engine.handler import Pooling
from roundhouse_llama_cpp import embeddings
from roundhouse_llama_cpp.settings import Settings
from tests.conformance.engine.conversations import said
from tests.conformance.engine.running import Engine
from tests.conformance.engine.test_llama_cpp import post, serving
from tests.support.gguf import write_bytewise, write_model

CONTEXT = 8192
RUN = 120_000
"""Bytes of letters in a row: a third as many letters end a thread whose stack is of the usual size."""
BOUND_SECONDS = 20
"""To count the tokens of what is refused here takes minutes, and of more of it days."""


@pytest.fixture(scope="module")
def by_letters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Its tokenizer knows next to no letter, and copies all tokens so far for each of them."""
    folder = tmp_path_factory.mktemp("letters")
    write_model(folder / "tiny.gguf", context=CONTEXT)
    with serving("chat", folder, folder, ROUNDHOUSE_CAPACITY="1") as engine:
        engine.until_ready()
        yield engine


@pytest.fixture(scope="module")
def recursive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Its tokenizer's matcher calls itself for each letter of a run, as that of gpt-oss does."""
    folder = tmp_path_factory.mktemp("recursive")
    write_bytewise(folder / "tiny.gguf", "gpt-4o", CONTEXT)
    with serving("chat", folder, folder, ROUNDHOUSE_CAPACITY="1") as engine:
        engine.until_ready()
        yield engine


@pytest.mark.parametrize("letter", ["a", " ", "字"])
def test_a_run_of_letters_does_not_end_the_engine(recursive: Engine, letter: str) -> None:
    found = post(recursive, messages=said(letter * (RUN // len(letter.encode()))))
    assert (found.status, found.error["code"]) == (400, "context_length_exceeded")
    assert re.match(r"The prompt is \d+ tokens long, and the model takes 8192", found.error["message"])
    assert post(recursive, messages=said("a"), max_tokens=1).status == 200


@pytest.mark.parametrize("field", ["messages", "characters", "prompt", "tokens"])
def test_what_is_far_too_long_is_refused_without_being_counted(recursive: Engine, field: str) -> None:
    text = "word " * 700_000
    begun = time.monotonic()
    if field == "messages":
        found = post(recursive, messages=said(text))
    elif field == "characters":
        found = post(recursive, messages=said("字" * (CONTEXT * 8)))
    else:
        prompt = text if field == "prompt" else [5] * 700_000
        found = post(recursive, "/v1/completions", prompt=prompt, max_tokens=1)
    assert (found.status, found.error["code"]) == (400, "context_length_exceeded")
    assert time.monotonic() - begun < BOUND_SECONDS


@pytest.mark.parametrize("field", ["messages", "prompt"])
@pytest.mark.parametrize(
    ("letters", "found"), [(CONTEXT + 2000, r"\d{5}"), (RUN, f"more than {2 * CONTEXT}")]
)
def test_of_what_is_far_too_long_only_the_beginning_is_counted(
    by_letters: Engine, field: str, letters: int, found: str
) -> None:
    if field == "messages":
        answer = post(by_letters, messages=said("a" * letters))
    else:
        answer = post(by_letters, "/v1/completions", prompt="a" * letters)
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert (answer.error["param"], answer.error["type"]) == (field, "invalid_request_error")
    wanted = f"The prompt is {found} tokens long, and the model takes {CONTEXT}"
    assert re.match(wanted, answer.error["message"]), answer.error["message"]


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused(by_letters: Engine) -> None:
    answer = post(by_letters, "/v1/completions", prompt=[5] * CONTEXT)
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert f"{CONTEXT} tokens long, and the model takes {CONTEXT - 1}" in answer.error["message"]


def test_a_text_that_is_far_too_long_costs_its_request_alone(tmp_path: Path) -> None:
    write_model(tmp_path / "tiny.gguf")
    with serving("embeddings", tmp_path, tmp_path, ROUNDHOUSE_LLAMA_CONTEXT_TOKENS="64") as engine:
        engine.until_ready()
        begun = time.monotonic()
        found = post(engine, "/v1/embeddings", input=["a", "word " * 700_000])
        assert (found.status, found.error["code"]) == (400, "context_length_exceeded")
        assert found.error["message"].startswith("input[1]: The prompt is 3500000 bytes long")
        assert time.monotonic() - begun < BOUND_SECONDS
        assert post(engine, "/v1/embeddings", input="a").status == 200


def _of_no_known_kind(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"llama", b"wamas"))


def _without_its_last_weights(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("spoil", [_of_no_known_kind, _without_its_last_weights])
@pytest.mark.parametrize("kind", ["chat", "embeddings"])
def test_a_file_that_is_no_model_ends_the_engine_with_the_reason(
    kind: str, spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    spoil(write_model(tmp_path / "tiny.gguf"))
    with serving(kind, tmp_path, tmp_path) as engine:
        assert engine.ended() == 1
        assert re.search("llama.cpp cannot load .*tiny.gguf", engine.logged.splitlines()[-1]), engine.logged


@pytest.mark.parametrize("kind", ["chat", "embeddings"])
def test_layers_for_a_gpu_where_there_is_none_end_the_engine_with_the_reason(
    kind: str, tmp_path: Path
) -> None:
    write_model(tmp_path / "tiny.gguf")
    with serving(kind, tmp_path, tmp_path, ROUNDHOUSE_LLAMA_GPU_LAYERS="99") as engine:
        assert engine.ended() == 1
        assert (
            "ROUNDHOUSE_LLAMA_GPU_LAYERS is 99, and llama.cpp sees no GPU" in engine.logged.splitlines()[-1]
        )


@pytest.mark.parametrize(
    ("kind", "tokens", "told"),
    [
        ("chat", "1073741824", "for each of 2 requests (ROUNDHOUSE_CAPACITY) at once"),
        ("embeddings", "600000000", "for each of 4 texts at once"),
        ("chat", "9" * 5000, "ROUNDHOUSE_LLAMA_CONTEXT_TOKENS must be a whole number from 16 to 2147483647"),
    ],
    ids=["requests", "texts", "no number that is kept"],
)
def test_more_context_than_llama_cpp_counts_is_told_by_its_settings(
    kind: str, tokens: str, told: str, tmp_path: Path
) -> None:
    write_model(tmp_path / "tiny.gguf")
    variables = {"ROUNDHOUSE_CAPACITY": "2", "ROUNDHOUSE_LLAMA_CONTEXT_TOKENS": tokens}
    with serving(kind, tmp_path, tmp_path, **variables) as engine:
        assert engine.ended() == 1
        assert told in engine.logged.splitlines()[-1]


class OneAtATime:
    """In the place of a loaded model: says nothing of its pooling, and how many there were at once."""

    alive = 0
    most = 0

    def __init__(self, _name: str, _weights: Path, settings: Settings, *, embedding: bool) -> None:
        assert embedding
        self._pooling = settings.pooling
        OneAtATime.alive += 1
        OneAtATime.most = max(OneAtATime.most, OneAtATime.alive)

    def __del__(self) -> None:
        OneAtATime.alive -= 1

    @property
    def server(self) -> "OneAtATime":
        return self

    def handle_embeddings(self, _asked: object) -> dict[str, Any]:
        return {"data": []} if self._pooling else {"error": {"message": "no pooling"}}


def test_a_model_that_says_nothing_of_its_pooling_needs_room_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "Llama", OneAtATime)
    embedder = embeddings.LlamaEmbeddings()
    embedder.load(ModelSpec("m", write_model(tmp_path / "tiny.gguf")), lambda _part: None)
    assert (OneAtATime.alive, OneAtATime.most) == (1, 1)


@pytest.mark.req("S2-12")
@pytest.mark.parametrize(("pooling", "asked"), [("Mean", "mean"), ("CLS", "cls"), ("LastToken", "last")])
def test_vectors_are_pooled_as_the_variant_says(
    pooling: Pooling, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_LLAMA_POOLING", "mean")
    found: list[str | None] = []

    class Told(OneAtATime):
        @override
        def handle_embeddings(self, asked: object) -> dict[str, Any]:
            found.append(self._pooling)
            return super().handle_embeddings(asked)

    monkeypatch.setattr(embeddings, "Llama", Told)
    told = ModelSpec("m", write_model(tmp_path / "tiny.gguf"), pooling=pooling)
    embeddings.LlamaEmbeddings().load(told, lambda _part: None)
    assert found == [asked]
