"""The three sizes of MusicGen that come with the project, as the requirements give them."""

from pathlib import Path

import pytest
import yaml

from roundhouse_api.v1alpha1 import Engine, ModelVariant

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/musicgen.yaml"
SIZES = {
    "small": ("Small", 10, "4G", "Fast generation, good for prototyping"),
    "medium": ("Medium", 15, "8G", "Balanced quality and speed"),
    "large": ("Large", 10, "16G", "Highest quality, requires more VRAM"),
}


@pytest.mark.req("S3-2", "S3-3")
def test_the_three_sizes_have_what_their_authors_say() -> None:
    engine, *variants = yaml.safe_load_all(EXAMPLE.read_text())
    Engine.model_validate(engine)
    assert len(variants) == len(SIZES)
    for one, (size, (name, seconds, memory, description)) in zip(variants, SIZES.items(), strict=True):
        variant = ModelVariant.model_validate(one)
        spec = variant.spec
        assert variant.metadata.name == f"musicgen-{size}"
        assert spec.suspend is (size != "small"), "one is as much as a small machine holds"
        assert (spec.display_name, spec.description) == (f"MusicGen {name}", description)
        assert spec.source.hugging_face is not None
        assert spec.source.hugging_face.repo == f"facebook/musicgen-{size}"
        assert spec.limits.max_duration_seconds == 30
        assert spec.limits.recommended_duration_seconds == seconds
        assert spec.limits.sample_rate_hertz == 32_000
        assert one["spec"]["performance"] == {"tokensPerSecond": "50"}
        assert one["spec"]["hardware"]["gpu"] == {"displayMemory": memory}
