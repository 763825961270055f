"""The transformers engine as its container runs it, with models that were made on the spot.

What it computes is held against the library itself, called plainly on the same files.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from roundhouse_engine import ModelError, ModelSpec
from tests.conformance.engine.conversations import said
from tests.conformance.engine.counting import assert_counts_in_a_stream_up_to_its_limit
from tests.conformance.engine.running import Answer, Engine, running
from tests.conformance.engine.stalling import assert_others_are_answered
from tests.support.torch_base import prepare_torch
from tests.support.waiting import wait_until

READY_SECONDS = 300
"""torch and transformers take five seconds of a free core to import, and a core is not always free."""


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    prepare_torch()
    from tests.support import tiny_models  # noqa: PLC0415 - torch loads only from here on

    return tiny_models


@contextlib.contextmanager
def serving(kind: str, folder: Path, *others: dict[str, str], **models: Path) -> Iterator[Engine]:
    """`kind`: of models; or a module of the tests that serves some. `others`: entries as they are told."""
    told = [*others, *({"name": name, "path": str(path)} for name, path in models.items())]
    variables = {
        "ROUNDHOUSE_MODELS": json.dumps(told),
        "ROUNDHOUSE_CONTEXT_TOKENS": str(ENDLESS_TOKENS),  # or less, as the models say
        "MODELS": "",
        "OMP_NUM_THREADS": "1",
        # The libraries' many files are compiled once and not by each engine.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONWARNINGS": "default",
    }
    command = ("-m", kind) if "." in kind else ("-m", "roundhouse_transformers", kind)
    with running(command, folder, **variables) as engine:
        wait_until(
            lambda: engine.ready, seconds=READY_SECONDS, what=f"ready; log:\n{engine.logged}", every=0.2
        )
        yield engine


@pytest.fixture(scope="module")
def repositories(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("embedders")
    return {
        "mean": tiny.write_embedder(folder / "mean"),
        "cls": tiny.write_embedder(folder / "cls", pooling="cls_token"),
        "last": tiny.write_embedder(folder / "last", pooling="lasttoken"),
        "dense": tiny.write_embedder(folder / "dense", pooling="mean_tokens", dense=True),
    }


@pytest.fixture(scope="module")
def embedder(repositories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    otherwise = {"name": "told", "path": str(repositories["last"]), "pooling": "Mean"}
    folder = tmp_path_factory.mktemp("embedder")
    with serving("embeddings", folder, otherwise, **repositories) as engine:
        yield engine


TEXTS = ["one two three", "w1", "count w2 w3 w4 w5 w6 w7"]


def plain(path: Path, pooling: str) -> Any:
    """What the library gives for each text alone, so without any padding."""
    import torch  # noqa: PLC0415 - see `tiny`
    import transformers  # noqa: PLC0415

    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModel.from_pretrained(path).eval()
    vectors = []
    for text in TEXTS:
        with torch.inference_mode():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        pooled = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling].numpy()
        vectors.append(pooled / np.linalg.norm(pooled))
    return np.array(vectors)


def post(engine: Engine, path: str, **fields: Any) -> Answer:
    return engine.request("POST", path, json.dumps(fields), {"Content-Type": "application/json"})


@pytest.mark.req("S2-12", "S2-17", "S2-18")
@pytest.mark.parametrize(
    ("model", "pooling"), [("mean", "mean"), ("cls", "cls"), ("last", "last"), ("told", "mean")]
)
def test_vectors_are_those_of_the_library(
    embedder: Engine, repositories: dict[str, Path], model: str, pooling: str
) -> None:
    with embedder.client as client:
        found = client.embeddings.create(model=model, input=TEXTS)
    vectors = np.array([each.embedding for each in found.data])
    assert vectors.shape == (3, 32)
    assert np.allclose(vectors, plain(repositories.get(model, repositories["last"]), pooling), atol=1e-5)
    assert found.usage.prompt_tokens == 3 + 1 + 7 + 3 * 2


def test_layers_of_the_repository_come_after_the_pooling(
    embedder: Engine, repositories: dict[str, Path]
) -> None:
    from safetensors.numpy import load_file  # noqa: PLC0415 - see `tiny`

    found = post(embedder, "/v1/embeddings", model="dense", input=TEXTS).json["data"]
    weight = load_file(repositories["dense"] / "2_Dense/model.safetensors")["linear.weight"]
    wanted = plain(repositories["dense"], "mean") @ weight.T
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.allclose([each["embedding"] for each in found], wanted, atol=1e-5)


def test_the_first_numbers_of_a_vector_are_one_too(embedder: Engine) -> None:
    whole = post(embedder, "/v1/embeddings", model="mean", input="one").json["data"][0]["embedding"]
    short = post(embedder, "/v1/embeddings", model="mean", input="one", dimensions=8).json["data"][0]
    assert np.allclose(short["embedding"], np.array(whole[:8]) / np.linalg.norm(whole[:8]), atol=1e-6)
    refused = post(embedder, "/v1/embeddings", model="mean", input="one", dimensions=33)
    assert (refused.status, refused.error["param"]) == (400, "dimensions")


def test_a_text_that_is_too_long_is_named_and_the_engine_goes_on(embedder: Engine) -> None:
    found = post(embedder, "/v1/embeddings", model="mean", input=["one", " ".join(["one"] * 127)])
    assert (found.status, found.error["code"]) == (400, "context_length_exceeded")
    assert found.error["message"].startswith("input[1]: The text is 129 tokens long, and the model takes 128")
    assert post(embedder, "/v1/embeddings", model="mean", input=" ".join(["one"] * 126)).status == 200
    found = post(embedder, "/v1/embeddings", model="mean", input=["one", "x" * 2_000_000])
    assert (found.status, found.error["code"]) == (400, "context_length_exceeded")
    assert found.error["message"].startswith("input[1]: The text is 2000000 characters long; at most 2048")


@pytest.fixture(scope="module")
def ranker(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("ranker")
    one, two = tiny.write_ranker(folder / "one"), tiny.write_ranker(folder / "two", labels=2)
    with serving("rerank", folder, one=one, two=two) as engine:
        yield engine


@pytest.mark.req("S2-21")
@pytest.mark.parametrize("model", ["one", "two"])
def test_documents_are_ranked_as_the_library_scores_them(ranker: Engine, model: str) -> None:
    import torch  # noqa: PLC0415 - see `tiny`
    import transformers  # noqa: PLC0415

    path = ranker.log.parent / model
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    library = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    scores = []
    for text in TEXTS:
        with torch.inference_mode():
            logits = library(**tokenizer("count", text, return_tensors="pt")).logits[0]
        scores.append(float(torch.sigmoid(logits[0]) if len(logits) == 1 else torch.softmax(logits, 0)[1]))
    found = post(ranker, "/v1/rerank", model=model, query="count", documents=TEXTS, top_n=2).json["results"]
    best = sorted(range(3), key=lambda at: -scores[at])[:2]
    assert [each["index"] for each in found] == best
    assert np.allclose([each["relevance_score"] for each in found], [scores[at] for at in best], atol=1e-5)


@pytest.mark.usefixtures("tiny")
def test_a_mean_of_many_tokens_is_no_more_than_they_are() -> None:
    """What float16 holds is at most 65,504, and it is what models on GPUs are stored in."""
    import torch  # noqa: PLC0415 - see `tiny`

    from roundhouse_transformers.pooling import pool  # noqa: PLC0415

    hidden, mask = torch.full((1, 8192, 4), 9.0, dtype=torch.float16), torch.ones(1, 8192, dtype=torch.int64)
    assert pool(hidden, mask, "mean").tolist() == [[9.0] * 4]


def without_padding(folder: Path) -> Any:
    """The repository, opened: as those of GPT-2's and Llama's families are published."""
    from roundhouse_transformers.repository import open_repository  # noqa: PLC0415 - see `tiny`

    told = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(told | {"pad_token": None}))
    return open_repository(ModelSpec("m", folder), lambda _: None)


def test_texts_of_different_lengths_are_embedded_where_no_padding_is_named(
    tiny: ModuleType, tmp_path: Path
) -> None:
    from roundhouse_transformers.encoder import Encoder  # noqa: PLC0415 - see `tiny`
    from roundhouse_transformers.settings import read_settings  # noqa: PLC0415

    encoder = Encoder(without_padding(tiny.write_writer(tmp_path / "m")), read_settings({}))
    both = encoder.embed(["count one two", "one"])
    assert both == pytest.approx(
        np.stack([encoder.embed([text])[0] for text in ("count one two", "one")]), abs=1e-5
    )


def test_a_ranker_whose_tokenizer_names_no_padding_is_refused(tiny: ModuleType, tmp_path: Path) -> None:
    from roundhouse_transformers.ranker import Ranker  # noqa: PLC0415 - see `tiny`
    from roundhouse_transformers.settings import read_settings  # noqa: PLC0415

    with pytest.raises(ModelError, match="names no pad_token"):
        Ranker(without_padding(tiny.write_ranker(tmp_path / "m")), read_settings({}))


@pytest.mark.parametrize("said_padding", [None, 1, 2])
def test_a_ranker_scores_a_pair_alike_alone_and_with_others(
    tiny: ModuleType, tmp_path: Path, said_padding: int | None
) -> None:
    """The tokenizer pads with 0, whatever the configuration says, by which the library finds a last token."""
    import transformers  # noqa: PLC0415 - see `tiny`

    from roundhouse_transformers.ranker import Ranker  # noqa: PLC0415
    from roundhouse_transformers.repository import open_repository  # noqa: PLC0415
    from roundhouse_transformers.settings import read_settings  # noqa: PLC0415

    path = tiny.write_writer(tmp_path / "m")
    config = transformers.AutoConfig.from_pretrained(path, num_labels=1, pad_token_id=said_padding)
    transformers.LlamaForSequenceClassification(config).save_pretrained(path)
    ranker = Ranker(open_repository(ModelSpec("m", path), lambda _: None), read_settings({}))
    pairs = [("one two", "three"), ("one two", "w1 w2 w3 w4 w5 w6 w7 w8")]
    assert ranker.score(pairs) == pytest.approx([ranker.score([pair])[0] for pair in pairs], abs=1e-5)


CHAT = "/v1/chat/completions"
ENDLESS_TOKENS = 1 << 20
"""So many take hours, of the tiniest model."""
LOOPS = "{% for i in range(n or 0) %}{% for j in range(n) %}{% endfor %}{% endfor %}assistant"
"""Nothing is written or called in it, for years where `n` says so."""


@pytest.fixture(scope="module")
def writer(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("writer")
    endless = {"chain": ("one", "two", "one"), "ends": False, "length": ENDLESS_TOKENS}
    models = {
        "m": tiny.write_writer(folder / "m"),
        "bare": tiny.write_writer(folder / "bare", template=None, **endless),
        "loops": tiny.write_writer(folder / "loops", template=LOOPS),
        "unended": tiny.write_writer(folder / "unended"),
        "misled": tiny.write_writer(folder / "misled"),
    }
    for name, said_end in (("unended", None), ("misled", 0)):
        for file in ("config.json", "generation_config.json"):
            config = json.loads((folder / name / file).read_text())
            (folder / name / file).write_text(json.dumps(config | {"eos_token_id": said_end}))
    with serving("chat", folder, **models) as engine:
        yield engine


@pytest.mark.req("S2-19")
def test_it_says_what_the_model_knows(writer: Engine) -> None:
    with writer.client as client:
        found = client.chat.completions.create(model="m", messages=said("count"), temperature=0)
    assert (found.choices[0].message.content or "").split() == ["one", "two", "three"]
    assert found.choices[0].finish_reason == "stop"
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (3, 4)  # with the end


@pytest.mark.req("S2-19")
def test_a_stream_says_the_same_and_ends_at_the_limit(writer: Engine) -> None:
    assert_counts_in_a_stream_up_to_its_limit(writer)


@pytest.mark.parametrize("model", ["unended", "misled"])
def test_a_turn_ends_where_its_tokenizer_says_so_whatever_the_configurations_do(
    writer: Engine, model: str
) -> None:
    """As fine-tunes often are: of a base whose texts end otherwise, or not at all."""
    (choice,) = post(writer, CHAT, model=model, messages=said("count"), temperature=0).json["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two three", "stop")


def test_a_completion_goes_on_where_its_prompt_ends(writer: Engine) -> None:
    """With the blank, that a decoder leaves out where a text begins."""
    told: dict[str, Any] = {"model": "m", "prompt": "count one", "temperature": 0}
    assert post(writer, "/v1/completions", **told).json["choices"][0]["text"] == " two three"
    with writer.client as client:
        pieces = [chunk.choices[0].text for chunk in client.completions.create(stream=True, **told)]
        tokens = client.completions.create(**told | {"prompt": [7, 8]})
    assert "".join(pieces) == " two three"
    assert tokens.choices[0].text == " two three", "of count one, by their numbers"


def test_it_stops_at_a_sequence(writer: Engine) -> None:
    found = post(writer, CHAT, model="m", messages=said("count"), stop=["two"])
    assert found.json["choices"][0]["message"]["content"].split() == ["one"]


@pytest.mark.req("S2-19")
def test_chance_repeats_itself_with_its_seed_alone(writer: Engine) -> None:
    def text(**fields: Any) -> str:
        told = {"temperature": 2, "max_tokens": 16} | fields
        found = post(writer, "/v1/completions", model="m", prompt="w1", **told)
        return str(found.json["choices"][0]["text"])

    assert text(seed=7) == text(seed=7)
    assert len({text(seed=seed) for seed in range(5)}) > 1
    assert len({text(seed=seed, temperature=0) for seed in range(2)}) == 1
    assert len({text(seed=seed, top_p=0) for seed in range(2)}) == 1
    assert len({text(seed=seed, top_k=1) for seed in range(2)}) == 1


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"messages": said("one " * 130)}, "messages"),
        (CHAT, {"messages": [said("a", role="tool")[0] | {"tool_call_id": "1"}]}, "messages"),
        (CHAT, {"messages": said("a"), "top_k": -2}, "top_k"),
        (CHAT, {"messages": said("a"), "chat_template_kwargs": 1}, "chat_template_kwargs"),
        (
            CHAT,
            {"messages": said("a"), "chat_template_kwargs": {"padding": "max_length"}},
            "chat_template_kwargs",
        ),
        (CHAT, {"messages": said("a"), "response_format": {"type": "json_object"}}, "response_format"),
        (CHAT, {"messages": said("a"), "tools": [{"type": "function"}]}, "tools"),
        (CHAT, {"model": "bare", "messages": said("a")}, "model"),
        ("/v1/completions", {"prompt": [4, 5000]}, "prompt"),
        ("/v1/completions", {"prompt": "one " * 130}, "prompt"),
        (CHAT, {"messages": said("one " * 500_000)}, "messages"),
        ("/v1/completions", {"prompt": " " * 2_000_000}, "prompt"),
    ],
    ids=[
        "too long",
        "template",
        "top_k",
        "kwargs",
        "no variable",
        "json",
        "tools",
        "no template",
        "no token",
        "long prompt",
        "far too long",
        "far too many blanks",
    ],
)
def test_what_it_cannot_do_is_refused_with_the_field(
    writer: Engine, path: str, fields: Any, param: str
) -> None:
    found = post(writer, path, **({"model": "m"} | fields))
    assert (found.status, found.error["param"]) == (400, param)
    assert len(found.error["message"].partition(" says: ")[2]) <= 201, "of a library's words"
    assert post(writer, CHAT, model="m", messages=said("count")).status == 200


def test_a_client_that_leaves_frees_the_slot(writer: Engine) -> None:
    """The model `bare` would go on for hours, and the next answer is nobody else's."""
    with contextlib.closing(writer.connect()) as connection:
        told = {
            "model": "bare",
            "prompt": "one",
            "stream": True,
            "max_tokens": ENDLESS_TOKENS // 2,
            "temperature": 0,
        }
        connection.request("POST", "/v1/completions", json.dumps(told))
        connection.getresponse().readline()
    wait_until(lambda: writer.in_use == 0, seconds=60, what="the slot is free", every=0.02)
    found = post(writer, CHAT, model="m", messages=said("count"))
    assert found.json["choices"][0]["message"]["content"].split() == ["one", "two", "three"]


def test_others_are_answered_while_it_computes(embedder: Engine, ranker: Engine, writer: Engine) -> None:
    texts = [" ".join(["one"] * 100)] * 1000
    works = (
        (embedder, "/v1/embeddings", {"model": "mean", "input": texts}),
        (ranker, "/v1/rerank", {"model": "one", "query": "one", "documents": texts}),
        (writer, "/v1/completions", {"model": "bare", "prompt": "one", "max_tokens": 500}),
    )
    for engine, path, told in works:
        body = json.dumps(told)
        assert_others_are_answered(engine, lambda: _asked(engine, path, body))  # noqa: B023 - called at once


def _asked(engine: Engine, path: str, body: str) -> None:
    found = engine.request("POST", path, body, {"Content-Type": "application/json"})
    assert found.status == 200, found.body


def test_a_template_that_does_not_end_ends_with_its_request(writer: Engine) -> None:
    told = {"model": "loops", "messages": said("a")}
    endless = json.dumps(told | {"chat_template_kwargs": {"n": 99_999}})
    found = writer.request("POST", CHAT, endless, {"X-Roundhouse-Deadline-Ms": "1000"})
    assert found.status == 504
    wait_until(lambda: writer.in_use == 0, seconds=60, what="the slot is free", every=0.02)
    assert post(writer, CHAT, **told, max_tokens=1).status == 200


def test_the_least_temperatures_are_none(writer: Engine) -> None:
    found = post(writer, CHAT, model="m", messages=said("count"), temperature=1e-38)
    assert found.json["choices"][0]["message"]["content"].split() == ["one", "two", "three"]


def _cut_off(path: Path) -> None:
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _pickled(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def _pickled_part(path: Path) -> None:
    """The library would take it for what its name says, beside others of the right kind."""
    (path / "pytorch_model.bin").write_bytes((path / "model.safetensors").read_bytes())
    index = {"weight_map": {"a": "model.safetensors", "b": "pytorch_model.bin"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def _own_code(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    del config["model_type"]
    (path / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "m.M"}}))


def _other_step(path: Path) -> None:
    (path / "modules.json").write_text(
        json.dumps([{"path": "", "type": "sentence_transformers.models.WeightedX"}])
    )


def _outside(path: Path) -> None:
    index = {"weight_map": {"a": "../other/model.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def _half(path: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.req("S2-17")
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_cut_off, r"'m' cannot be loaded: .*fetch them again"),
        (_pickled, r"pickled weights alone \(pytorch_model.bin\), which can hold code"),
        (_pickled_part, r"has pickled weights \(pytorch_model.bin\), which can hold code"),
        (_own_code, r"brings its own code, which is not run unless"),
        (_other_step, r"has a step 'WeightedX' in modules.json, which is not known here"),
        (_outside, r"name '../other/model.safetensors', which is outside of"),
        (lambda path: (path / "config.json").write_text("[]"), r"config.json' holds no JSON object"),
        (
            lambda path: (path / "modules.json").write_text("{}"),
            r"modules.json' holds no list of JSON objects",
        ),
        (_half, r"of the weights model-00001-of-00002.safetensors is missing"),
        (lambda path: (path / "tokenizer.json").unlink(), r"holds no tokenizer.json"),
        (lambda path: (path / "config.json").write_text("{"), r"config.json' cannot be read"),
        (lambda path: (path / "config.json").unlink(), r"holds no config.json, so no model of transformers"),
    ],
    ids=[
        "cut off",
        "pickled",
        "a pickled part",
        "own code",
        "step",
        "outside",
        "list",
        "no list",
        "a part",
        "no tokenizer",
        "no json",
        "no config",
    ],
)
def test_a_repository_that_must_not_or_cannot_be_loaded(
    tiny: ModuleType, tmp_path: Path, spoil: Any, told: str
) -> None:
    from roundhouse_transformers.handlers import TransformersEmbeddings  # noqa: PLC0415 - see `tiny`

    path = tiny.write_embedder(tmp_path / "m")
    spoil(path)
    with pytest.raises(ModelError, match=told):
        TransformersEmbeddings().load(ModelSpec("m", path), lambda _part: None)


def test_weights_that_the_task_needs_are_not_made_up(tiny: ModuleType, tmp_path: Path) -> None:
    from roundhouse_transformers.handlers import TransformersRerank  # noqa: PLC0415 - see `tiny`

    path = tiny.write_embedder(tmp_path / "m")
    with pytest.raises(
        ModelError, match=r"lacks 2 weights .*'classifier.bias': it was made for another task"
    ):
        TransformersRerank().load(ModelSpec("m", path), lambda _part: None)
