"""NeMo's example as it stands: the loader fetches its repository, and the gateway says what was said."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from openai import OpenAI

from tests.conformance.engine.nemo_engine import made_models, speech
from tests.e2e.release import Release
from tests.support.hub import Hub
from tests.support.recordings import GO_FORWARD_WORDS, WEATHER_WORDS, wav
from tests.support.torch_base import prepare_torch

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/nemo.yaml"


@pytest.fixture
def model(release: Release, hub: Hub) -> Iterator[str]:
    """The variant for recordings, Ready; its weights are a tiny model that has learnt four recordings."""
    prepare_torch()
    weights = (made_models() / "tdt/tiny.nemo").read_bytes()
    # The live one's pod would import NeMo once more, and `tests/conformance` shows what it does.
    engine, variant, *_ = yaml.safe_load_all(EXAMPLE.read_text())
    hub.commit(
        variant["spec"]["source"]["huggingFace"]["repo"], {"m.nemo": weights, "README.md": b"# Tiny\n"}
    )
    engine["spec"]["hardware"]["resources"]["requests"] = {"cpu": "50m", "memory": "512Mi"}
    release.apply(yaml.safe_dump_all([engine, variant]))
    name = f"modelvariant/{variant['metadata']['name']}"
    release.wait_for_condition(name, "Ready", "True", "Serving", seconds=420)
    yield variant["spec"]["servedName"]
    release.delete(name, f"engine/{engine['metadata']['name']}")


@pytest.mark.req("S0-24")
def test_the_examples_model_hears_through_the_gateway(release: Release, model: str) -> None:
    with OpenAI(base_url=f"{release.url}/v1", api_key="none needed", max_retries=2) as client:
        found = client.audio.transcriptions.create(
            model=model,
            file=("a.wav", wav(speech(GO_FORWARD_WORDS, WEATHER_WORDS))),
            response_format="verbose_json",
            timestamp_granularities=["word"],
        )
    said = f"{GO_FORWARD_WORDS} {WEATHER_WORDS}".split()
    assert [word.word for word in found.words or ()] == said
