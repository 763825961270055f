"""What the catalogue says of each model is what the table says."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
import yaml

from roundhouse_api.v1alpha1 import (
    Capabilities,
    Feature,
    GPUMode,
    Interface,
    ModelVariantSpec,
    Pooling,
    Quantity,
    SourceType,
    Streaming,
    WordTimestamps,
)
from roundhouse_engine.languages import NAMES
from roundhouse_loader.selection import choose
from roundhouse_loader.source import HuggingFace as Place
from roundhouse_loader.source import Source, WeightFormat
from tests.unit.catalogue.shown import FILES, Row, Shown, rows, shown, unserved

WHISPER_LANGUAGES = set(NAMES) - {"yue"}
"""The 99 that all of Whisper's models know; large-v3 alone knows Cantonese."""


def gigabytes(text: str) -> Decimal | None:
    return Decimal(text) if text else None


def decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def in_gb(value: Quantity | None) -> Decimal | None:
    return None if value is None else Decimal(value.bytes) / 10**9


def said(one: Shown) -> dict[str, object]:
    """What of a model the table has a column for."""
    spec, merged = one.variant.spec, one.merged
    can = merged.capabilities or Capabilities()
    figures = merged.performance
    factors = figures.real_time_factor if figures else None
    hub = spec.source.hugging_face
    return {
        "repo": hub.repo if hub else "",
        "commit": hub.revision if hub else None,
        "stage": merged.stage.value,
        "interfaces": " ".join(each.value for each in merged.interfaces),
        "gpu": (merged.gpu.mode or GPUMode.NONE).value,
        "languages": None if can.languages is None else set(can.languages),
        "streaming": can.streaming,
        "words": can.word_timestamps,
        "shown_gb": in_gb(merged.gpu.display_memory),
        "rtf_gpu": decimal(factors.gpu if factors else None),
        "rtf_cpu": decimal(factors.cpu if factors else None),
        "speed": decimal(figures.speed_factor if figures else None),
        "tier": spec.selection.speed_tier,
        "licence": spec.license,
    }


def wanted(row: Row) -> dict[str, object]:
    languages = WHISPER_LANGUAGES if row.languages == "99" else set(row.languages.split()) or None
    return {
        "repo": row.repo,
        "commit": row.commit or None,
        "stage": row.stage,
        "interfaces": row.interfaces,
        "gpu": row.gpu,
        "languages": languages,
        "streaming": row.streaming or None,
        "words": row.words or None,
        "shown_gb": gigabytes(row.shown_gb),
        "rtf_gpu": gigabytes(row.rtf_gpu),
        "rtf_cpu": gigabytes(row.rtf_cpu),
        "speed": gigabytes(row.speed),
        "tier": row.tier or None,
        "licence": row.licence or None,
    }


def test_the_catalogue_has_the_models_of_the_table_and_no_others() -> None:
    assert set(shown()) == {row.id for row in rows()}
    assert set(unserved()) == {row.id for row in rows("unserved")}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
@pytest.mark.req("S0-4", "S1-7", "S1-24", "S2-2", "S2-3", "S2-4", "S2-5", "S3-2")
def test_a_model_has_the_figures_of_the_table(row: Row) -> None:
    assert said(shown()[row.id]) == wanted(row)


@pytest.mark.parametrize("row", [row for row in rows() if row.needed_gb], ids=lambda row: row.id)
def test_placement_asks_for_no_more_than_the_table_and_for_less_where_a_card_is_named(row: Row) -> None:
    """Cards of 8 and of 16 GB report less than that."""
    gpu = shown()[row.id].variant.spec.hardware
    assert gpu
    assert gpu.gpu
    needed = Decimal(row.needed_gb)
    assert in_gb(gpu.gpu.min_memory) == (needed - 1 if needed in (8, 16) else needed)


@pytest.mark.parametrize("row", rows("unserved"), ids=lambda row: row.id)
def test_what_nobody_serves_says_why_and_has_the_figures_of_the_table(row: Row) -> None:
    entry = unserved()[row.id]
    assert entry["enabled"] is False
    assert len(entry["reason"]) > 20
    spec = {key: value for key, value in entry.items() if key not in ("repo", "enabled", "reason", "gated")}
    hub = {"type": "HuggingFace", "huggingFace": {"repo": row.repo}}
    made = ModelVariantSpec.model_validate(
        {**spec, "source": {**spec["source"], **hub}, "engineRef": {"name": "of-yours"}}
    )
    can = made.capabilities or Capabilities()
    languages = set(row.languages.split())
    counted = row.languages.isdigit()
    assert set(can.languages or ()) == ({"*"} if counted else languages)
    assert (str(can.language_count) if counted else row.languages) == row.languages
    assert can.word_timestamps == (row.words or None)
    assert made.license == (row.licence or None)
    assert made.hardware
    assert made.hardware.gpu
    assert in_gb(made.hardware.gpu.display_memory) == gigabytes(row.shown_gb)
    factors = made.performance.real_time_factor if made.performance else None
    found = (factors.gpu, factors.cpu) if factors else (None, None)
    assert tuple(map(decimal, found)) == (gigabytes(row.rtf_gpu), gigabytes(row.rtf_cpu))


REGISTRY = {
    "whisper-large-v3": ("large-v3", "Most accurate multilingual model, 99 languages", {"accurate", "large"}),
    "whisper-large-v2": ("large-v2", "Previous generation large model", set()),
    "whisper-medium": ("medium", "Balanced accuracy and speed", {"medium"}),
    "whisper-small": ("small", "Fast multilingual transcription", {"small"}),
    "whisper-base": ("base", "Very fast, lower accuracy", {"base"}),
    "whisper-tiny": ("tiny", "Fastest, minimal accuracy", {"tiny"}),
    "distil-whisper": ("distil-large-v3", "Fast English-only, near large-v3 accuracy", {"fast"}),
}


@pytest.mark.req("S0-4", "S0-5")
def test_the_registry_s_seven_have_its_names_words_and_aliases() -> None:
    specs = {name: shown()[name].variant.spec for name in REGISTRY}
    found = {
        name: (spec.engine_model_name, spec.description, set(spec.aliases)) for name, spec in specs.items()
    }
    assert found == REGISTRY
    assert {row.id for row in rows("S0-4")} == set(REGISTRY)


@pytest.mark.req("S1-11")
def test_capabilities_are_those_of_the_published_examples() -> None:
    whisper, parakeet = (
        shown()[name].merged.capabilities for name in ("faster-whisper-base", "parakeet-0.6b")
    )
    assert whisper
    assert whisper.streaming is Streaming.NONE
    assert whisper.word_timestamps is not WordTimestamps.NATIVE
    assert parakeet
    assert parakeet.languages == ("en",)
    assert parakeet.word_timestamps is WordTimestamps.NATIVE
    assert shown()["parakeet-0.6b"].merged.gpu.mode is GPUMode.OPTIONAL


@pytest.mark.req("S1-7")
def test_eight_of_the_engine_selection_of_which_three_are_live() -> None:
    eight = [shown()[row.id].merged for row in rows("S1-7")]
    live = [each for each in eight if Interface.REALTIME in each.interfaces]
    assert (len(eight), len(live)) == (8, 3)
    rates = [
        each.capabilities.audio.sample_rate_hertz
        for each in live
        if each.capabilities and each.capabilities.audio
    ]
    assert rates == [16000] * 3


@pytest.mark.req("S1-25")
def test_voxtral_has_the_figures_of_its_card() -> None:
    voxtral = shown()["voxtral-streaming-4b"]
    can, figures = voxtral.merged.capabilities, voxtral.merged.performance
    assert can
    assert len(can.languages or ()) == 13
    assert (can.streaming, can.word_timestamps) == (Streaming.NATIVE, WordTimestamps.NONE)
    assert figures
    assert (figures.latency_milliseconds, figures.tokens_per_second) == (480, "12.5")
    assert voxtral.variant.spec.license == "Apache-2.0"
    assert voxtral.variant.spec.alternate_names == ("mistralai/Voxtral-Mini-4B-Realtime-2602",)


@pytest.mark.req("S2-2")
def test_embedding_models_say_dimensions_and_pooling() -> None:
    found = {}
    for row in rows("S2-2"):
        can = shown()[row.id].merged.capabilities
        assert can
        assert can.embedding
        found[row.id] = (can.embedding.dimensions, can.embedding.pooling)
    assert found == {
        "BAAI/bge-m3": (1024, Pooling.CLS),
        "google/embeddinggemma-300m": (768, Pooling.MEAN),
        "Qwen/Qwen3-Embedding-0.6B": (1024, Pooling.LAST_TOKEN),
        "Qwen/Qwen3-Embedding-4B": (2560, Pooling.LAST_TOKEN),
    }


@pytest.mark.req("S2-3", "S2-4")
def test_four_models_chat_and_four_more_see() -> None:
    for row in rows("S2-3", "S2-4"):
        one = shown()[row.id]
        features = (one.merged.capabilities or Capabilities()).features or ()
        assert (Feature.VISION in features) == (row.set == "S2-4"), row.id
        assert Feature.STRUCTURED_OUTPUTS in features, row.id
        assert one.variant.spec.request_defaults == {"temperature": 0.7, "top_p": 0.9, "max_tokens": 512}
        assert bool((one.variant.spec.hardware or one.merged.hardware).affinity) == row.id.endswith("-FP8")


@pytest.mark.req("S2-5")
def test_ten_speech_models_say_what_they_are_good_for() -> None:
    ten = {row.id: shown()[row.id].variant.spec.description for row in rows("S2-5")}
    assert len(ten) == 10
    assert ten["openai/whisper-tiny"] == "Fastest, lowest accuracy"
    assert ten["openai/whisper-small"] == "Good balance"
    assert ten["openai/whisper-medium"] == "Higher accuracy"
    assert ten["openai/whisper-large-v2"] == "Best accuracy"


@pytest.mark.req("S3-2")
def test_music_models_have_the_limits_of_their_size() -> None:
    found = {}
    for row in rows("S3-2"):
        spec = shown()[row.id].variant.spec
        assert spec.performance
        assert (spec.limits.sample_rate_hertz, spec.performance.tokens_per_second) == (32000, "50")
        found[row.id] = (spec.limits.max_duration_seconds, spec.limits.recommended_duration_seconds)
        assert spec.alternate_names == (row.repo,)
    assert found == {"musicgen-small": (30, 10), "musicgen-medium": (30, 15), "musicgen-large": (30, 10)}


@pytest.mark.req("S2-4")
def test_weights_in_fp8_are_served_by_who_computes_with_them_without_fetching_code() -> None:
    quantized = [shown()[row.id] for row in rows() if row.id.endswith("-FP8")]
    assert len(quantized) == 3
    for one in quantized:
        workload = one.engine.spec.workload
        assert workload
        assert workload.image.startswith("vllm/vllm-openai:")
        assert workload.args[0] == "/weights"
        assert one.merged.model_name in one.variant.spec.args


PICKLED = {"BAAI/bge-m3", "Ivydata/whisper-small-japanese", "musicgen-medium", "musicgen-large"}
"""Their repositories hold no safetensors."""
UNPINNED = {
    "parakeet-0.6b",
    "jethrowang/whisper-tiny-chinese",
    "Ivydata/whisper-small-japanese",
    "BELLE-2/Belle-whisper-large-v3-zh",
}
"""No commit of theirs is known from two sources."""


def test_what_can_run_code_is_said_of_weights_that_are_pickled_and_of_no_others() -> None:
    risky = {name for name, one in shown().items() if one.variant.spec.source.allow}
    nemo = {name for name, one in shown().items() if one.engine.metadata.name.startswith("nemo")}
    assert risky == nemo | PICKLED
    assert {shown()[name].variant.spec.source.format for name in PICKLED} == {"PyTorch"}


def test_weights_are_pinned_but_for_those_whose_commit_nobody_could_verify() -> None:
    hubs = {name: one.variant.spec.source.hugging_face for name, one in shown().items()}
    unpinned = {
        name for name, hub in hubs.items() if hub and not re.fullmatch("[0-9a-f]{40}", hub.revision or "")
    }
    assert unpinned == UNPINNED


def test_of_a_repository_that_has_its_weights_twice_one_form_is_fetched() -> None:
    """And it fits into the volume that the entry asks for."""
    held = {
        "voxtral-streaming-4b": {
            "config.json": 0,
            "consolidated.safetensors": 8.86,
            "model.safetensors": 8.86,
        },
        "musicgen-medium": {"config.json": 0, "pytorch_model.bin": 8.04, "state_dict.bin": 3.68},
        "musicgen-large": {
            "pytorch_model.bin.index.json": 0,
            "pytorch_model-00001-of-00002.bin": 9.99,
            "pytorch_model-00002-of-00002.bin": 3.73,
            "state_dict.bin": 6.5,
        },
    }
    for name, files in held.items():
        source = shown()[name].variant.spec.source
        place = Place(source.hugging_face.repo if source.hugging_face else "")
        include = source.hugging_face.include if source.hugging_face else ()
        asked = Source(place, WeightFormat(source.format or ""), unsafe_formats=bool(source.allow))
        wanted = choose(tuple(files), asked, include, by_format=True).wanted
        assert len([path for path in wanted if path.endswith("json")]) == 1
        assert not [path for path in wanted if "state_dict" in path]
        assert source.size
        assert 8 < sum(files[path] for path in wanted) < source.size.bytes / 10**9, name


def test_weights_come_from_the_hub_or_the_image_and_say_how_large_they_are() -> None:
    for name, one in shown().items():
        source = one.variant.spec.source
        in_image = one.engine.metadata.name.startswith("pocketsphinx")
        assert source.type is (SourceType.BUILTIN if in_image else SourceType.HUGGING_FACE), name
        assert bool(source.size) != in_image, name
        assert source.format in (one.engine.spec.formats or ()), name


def test_variants_of_the_same_weights_name_the_same_source_so_that_one_copy_is_kept() -> None:
    sources: dict[str, str] = {}
    for one in shown().values():
        if hub := one.variant.spec.source.hugging_face:
            text = one.variant.spec.source.model_dump_json()
            assert sources.setdefault(hub.repo, text) == text, hub.repo


def test_no_file_says_an_engine_that_no_model_wants() -> None:
    engines = yaml.safe_load((FILES / "engines.yaml").read_text())
    wanted = {one.engine.metadata.name for one in shown().values()}
    # What models of the same kind are laid onto where there is no GPU, or where there is one.
    spare = {"nemo-live", "faster-whisper-live-gpu"}
    assert set(engines) - spare == wanted
