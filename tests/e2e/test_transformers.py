"""The examples of transformers as they stand: the loader fetches its repositories, and the gateway answers.

What is in the repositories was made on the spot; the rest is what runs for everybody.
"""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import cohere
import httpx
import numpy as np
import pytest
import yaml
from openai import BadRequestError, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from PIL import Image

from tests.e2e.release import Release
from tests.support.hub import Hub
from tests.support.recordings import go_forward
from tests.support.torch_base import prepare_torch
from tests.support.whisper import Whisper

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CHAT, EMBEDDINGS = "Qwen/Qwen2.5-0.5B-Instruct", "bge-small-en-v1.5"
PICTURES, RANKER = "qwen3-vl-2b-instruct", "bge-reranker-base"
WHISPER, FINE_TUNE = "openai/whisper-tiny", "Ivydata/whisper-small-japanese"

QUESTION: Final[list[ChatCompletionMessageParam]] = [{"role": "user", "content": "count"}]


def documents(example: str, *without: str) -> list[dict[str, Any]]:
    """Engines with their variants, all of which run; they ask for what tiny models need."""
    whole = yaml.safe_load_all((EXAMPLES / example).read_text())
    found = [one for one in whole if not any(each in one["metadata"]["name"] for each in without)]
    for one in found:
        one["spec"].pop("replicas", None)
        if one["kind"] == "Engine":
            one["spec"]["hardware"]["resources"]["requests"] = {"cpu": "50m", "memory": "256Mi"}
    return found


@contextmanager
def serving(
    release: Release, hub: Hub, repositories: dict[str, Path], manifests: list[dict[str, Any]]
) -> Iterator[None]:
    """All variants Ready, with weights from the hub's repositories that the example names."""
    for repo, folder in repositories.items():
        files = [path for path in folder.rglob("*") if path.is_file()]
        hub.commit(repo, {str(path.relative_to(folder)): path.read_bytes() for path in files})
    variants = [one["metadata"]["name"] for one in manifests if one["kind"] == "ModelVariant"]
    try:
        release.apply(yaml.safe_dump_all(manifests))
        for name in variants:
            release.wait_for_condition(f"modelvariant/{name}", "Ready", "True", "Serving", seconds=300)
        yield
    finally:
        names = (f"{one['kind'].lower()}/{one['metadata']['name']}" for one in reversed(manifests))
        release.delete(*names)


@pytest.fixture
def models(release: Release, hub: Hub, tmp_path: Path) -> Iterator[None]:
    prepare_torch()
    from tests.support.tiny_models import write_embedder, write_ranker, write_writer  # noqa: PLC0415 - torch
    from tests.support.tiny_seers import write_qwen  # noqa: PLC0415

    made = {
        "Qwen/Qwen2.5-0.5B-Instruct": write_writer(tmp_path / "chat"),
        "BAAI/bge-small-en-v1.5": write_embedder(tmp_path / "embeddings", pooling="cls_token"),
        "BAAI/bge-reranker-base": write_ranker(tmp_path / "rerank"),
        "Qwen/Qwen3-VL-2B-Instruct": write_qwen(tmp_path / "pictures"),
    }
    examples = [*documents("transformers.yaml"), *documents("transformers-vision.yaml")]
    with serving(release, hub, made, examples):
        yield


@pytest.fixture
def whispers(release: Release, hub: Hub, tmp_path: Path) -> Iterator[None]:
    """One as OpenAI publishes it, and one as fine-tunes were some years ago: pickled, and told little of."""
    prepare_torch()
    from tests.support.whisper_repository import Kind, write_whisper  # noqa: PLC0415 - torch loads only now

    made = {
        WHISPER: write_whisper(tmp_path / "whole"),
        FINE_TUNE: write_whisper(
            tmp_path / "old", Whisper(says=("konnichiwa",), language="ja"), Kind.OLD_FINE_TUNE
        ),
    }
    with serving(release, hub, made, documents("transformers-whisper.yaml", "small-en")):
        yield


@pytest.mark.req("S2-4", "S2-12", "S2-19")
def test_the_examples_models_answer_through_the_gateway(release: Release, models: None) -> None:
    with OpenAI(base_url=f"{release.url}/v1", api_key="none needed", max_retries=2) as client:
        told = client.chat.completions.create(model=CHAT, messages=QUESTION, temperature=0)
        with client.chat.completions.create(
            model=CHAT, messages=QUESTION, temperature=0, stream=True
        ) as stream:
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        found = client.embeddings.create(model=EMBEDDINGS, input=["one two three", "w1"])
        check_pictures(client)
    said = told.choices[0].message.content or ""
    assert said.split() == ["one", "two", "three"]
    assert len([piece for piece in pieces if piece]) > 1, "in pieces"
    assert "".join(pieces) == said
    vectors = np.array([one.embedding for one in found.data])
    assert vectors.shape == (2, 32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert not np.allclose(vectors[0], vectors[1])
    check_ranks(release.url)


def check_ranks(url: str) -> None:
    documents = ["one two", "w1 w2 w3", "three", "w4"]
    with httpx.Client(timeout=60) as http:
        client = cohere.ClientV2(api_key="none needed", base_url=url, httpx_client=http)
        best = client.rerank(model=RANKER, query="one", documents=documents).results
        turned = client.rerank(model=RANKER, query="one", documents=documents[::-1], top_n=2).results
    assert sorted(each.index for each in best) == [0, 1, 2, 3]
    scores = {each.index: each.relevance_score for each in best}
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert len(set(scores.values())) == len(documents)
    found = {3 - each.index: each.relevance_score for each in turned}
    assert len(found) == 2
    assert found == pytest.approx({index: scores[index] for index in found}, abs=1e-6)


def check_pictures(client: OpenAI) -> None:
    def looking(url: str) -> list[ChatCompletionMessageParam]:
        parts: list[Any] = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "?"}]
        return [{"role": "user", "content": parts}]

    def picture(color: str) -> str:
        written = io.BytesIO()
        Image.new("RGB", (84, 56), color).save(written, "png")
        return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"

    def answer(model: str, url: str) -> str:
        told: dict[str, Any] = {"messages": looking(url), "temperature": 0, "max_tokens": 8}
        return client.chat.completions.create(model=model, **told).choices[0].message.content or ""

    red, again, blue = (answer(PICTURES, picture(color)) for color in ("red", "red", "blue"))
    assert red
    assert red == again
    assert red != blue
    with pytest.raises(BadRequestError, match="nothing is fetched here"):
        answer(PICTURES, "http://10.0.0.1/a.png")
    with pytest.raises(BadRequestError):
        answer(CHAT, picture("red"))


@pytest.mark.req("S2-20")
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_whispers_of_transformers_are_heard_through_the_gateway(release: Release, whispers: None) -> None:
    with OpenAI(base_url=f"{release.url}/v1", api_key="none needed", max_retries=2) as client:
        found = client.audio.transcriptions.create(
            model=WHISPER,
            file=("a.wav", go_forward()),
            response_format="verbose_json",
            timestamp_granularities=["word"],
        )
        translation = client.audio.translations.create(model=WHISPER, file=("a.wav", go_forward()))
        fine_tune = client.audio.transcriptions.create(model=FINE_TUNE, file=("a.wav", go_forward()))
    assert (found.text, found.language, translation.text) == ("hello world", "english", "good day")
    assert found.words is not None
    first, second = found.words
    assert second.start - first.start == pytest.approx(0.5, abs=0.01)
    assert fine_tune.text == "konnichiwa"
