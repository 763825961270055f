"""The example of transformers as it stands: the loader fetches its repositories, and the gateway answers.

What is in the repositories was made on the spot; the rest is what runs for everybody.
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
from tests.support.hub import Hub
from tests.support.torch_base import prepare_torch

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/transformers.yaml"
CHAT, EMBEDDINGS = "qwen2.5-0.5b-instruct", "bge-small-en-v1.5"


QUESTION: Final[list[ChatCompletionMessageParam]] = [{"role": "user", "content": "count"}]


def documents() -> list[dict[str, Any]]:
    """Engines that chat and embed, each with its variant; they ask for what tiny models need."""
    found: list[dict[str, Any]] = [
        one for one in yaml.safe_load_all(EXAMPLE.read_text()) if "rerank" not in one["metadata"]["name"]
    ]
    for one in found:
        if one["kind"] == "Engine":
            one["spec"]["hardware"]["resources"]["requests"] = {"cpu": "50m", "memory": "256Mi"}
    return found


@pytest.fixture
def models(release: Release, hub: Hub, tmp_path: Path) -> Iterator[None]:
    """Both variants Ready, with weights from the hub's repositories that the example names."""
    prepare_torch()
    from tests.support.tiny_models import write_embedder, write_writer  # noqa: PLC0415 - torch loads only now

    made = {
        "Qwen/Qwen2.5-0.5B-Instruct": write_writer(tmp_path / "chat"),
        "BAAI/bge-small-en-v1.5": write_embedder(tmp_path / "embeddings", pooling="cls_token"),
    }
    for repo, folder in made.items():
        files = [path for path in folder.rglob("*") if path.is_file()]
        hub.commit(repo, {str(path.relative_to(folder)): path.read_bytes() for path in files})
    manifests = documents()
    release.apply(yaml.safe_dump_all(manifests))
    variants = [one["metadata"]["name"] for one in manifests if one["kind"] == "ModelVariant"]
    for name in variants:
        release.wait_for_condition(f"modelvariant/{name}", "Ready", "True", "Serving", seconds=300)
    yield
    release.delete(*(f"{one['kind'].lower()}/{one['metadata']['name']}" for one in reversed(manifests)))


@pytest.mark.req("S2-12", "S2-19")
def test_the_examples_models_answer_through_the_gateway(release: Release, models: None) -> None:
    with OpenAI(base_url=f"{release.url}/v1", api_key="none needed", max_retries=2) as client:
        told = client.chat.completions.create(model=CHAT, messages=QUESTION, temperature=0)
        with client.chat.completions.create(
            model=CHAT, messages=QUESTION, temperature=0, stream=True
        ) as stream:
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        found = client.embeddings.create(model=EMBEDDINGS, input=["one two three", "w1"])
    said = told.choices[0].message.content or ""
    assert said.split() == ["one", "two", "three"]
    assert len([piece for piece in pieces if piece]) > 1, "in pieces"
    assert "".join(pieces) == said
    vectors = np.array([one.embedding for one in found.data])
    assert vectors.shape == (2, 32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert not np.allclose(vectors[0], vectors[1])
