"""The example of GGUF files as it stands: the loader fetches them, and the gateway answers.

`gguf.yaml` names this repository's image; `llama-cpp.yaml` names llama.cpp's own server, whose image no
test can have. What is in the files was made on the spot.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import yaml
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.release import Release
from tests.support.gguf import write_model
from tests.support.hub import Hub

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/gguf.yaml"
CHAT, EMBEDDINGS = "qwen2.5-0.5b-instruct", "nomic-embed-text-v1.5"
QUESTION: Final[list[ChatCompletionMessageParam]] = [{"role": "user", "content": "count"}]
WIDTH = 64


def documents() -> list[dict[str, Any]]:
    """Engines that chat and embed, each with its variant; they ask for what a tiny model needs."""
    found: list[dict[str, Any]] = list(yaml.safe_load_all(EXAMPLE.read_text()))
    for one in found:
        if one["kind"] == "Engine":
            one["spec"]["hardware"]["resources"]["requests"] = {"cpu": "50m", "memory": "256Mi"}
    return found


@pytest.fixture
def models(release: Release, hub: Hub, tmp_path: Path) -> Iterator[None]:
    """Both variants Ready, with the files of the hub's repositories that the example names."""
    manifests = documents()
    weights = write_model(tmp_path / "tiny.gguf").read_bytes()
    variants = [one for one in manifests if one["kind"] == "ModelVariant"]
    for variant in variants:
        source = variant["spec"]["source"]["huggingFace"]
        [wanted] = source["include"]
        hub.commit(source["repo"], {wanted: weights, "another-size.gguf": b"fetched by nobody"})
    release.apply(yaml.safe_dump_all(manifests))
    for variant in variants:
        release.wait_for_condition(
            f"modelvariant/{variant['metadata']['name']}", "Ready", "True", "Serving", seconds=300
        )
    yield
    release.delete(*(f"{one['kind'].lower()}/{one['metadata']['name']}" for one in reversed(manifests)))


@pytest.mark.req("S2-18", "S2-19")
def test_the_examples_files_answer_through_the_gateway(release: Release, models: None) -> None:
    with OpenAI(base_url=f"{release.url}/v1", api_key="none needed", max_retries=2) as client:
        told = client.chat.completions.create(model=CHAT, messages=QUESTION, temperature=0)
        with client.chat.completions.create(
            model=CHAT, messages=QUESTION, temperature=0, stream=True
        ) as stream:
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        found = client.embeddings.create(model=EMBEDDINGS, input=["one two three", "w1"])
    said = told.choices[0].message.content or ""
    assert said.split() == ["one", "two", "three"]
    assert told.usage is not None
    assert told.usage.completion_tokens == 4  # with the end
    assert len([piece for piece in pieces if piece]) > 1, "in pieces"
    assert "".join(pieces) == said
    vectors = np.array([one.embedding for one in found.data])
    assert vectors.shape == (2, WIDTH)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert not np.allclose(vectors[0], vectors[1])
    assert found.usage.prompt_tokens > 0
