"""What the chart's values make of the catalogue: which models run, and what is laid over them."""

from __future__ import annotations

from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import CacheType, Engine, GPUMode, ModelVariant, SourceType
from tests.charts.helm import notes, render
from tests.unit.catalogue.shown import resources, rows, unserved

MINE: Manifest = {
    "name": "my-embedding",
    "repo": "my-org/my-embedding-model",
    "engine": "transformers-embeddings",
}


def running(run: list[str], **values: Any) -> tuple[dict[str, Engine], dict[str, ModelVariant]]:
    catalogue = {"run": run, **values.pop("catalogue", {})}
    return resources({"catalogue": catalogue, **values})


def only(run: str, **values: Any) -> ModelVariant:
    [found] = running([run], **values)[1].values()
    return found


@pytest.mark.req("S2-6")
def test_an_installation_has_nothing_of_the_catalogue_unasked() -> None:
    assert resources({}) == ({}, {})


def test_what_is_named_runs_with_its_engine_and_nothing_else_is_there() -> None:
    engines, variants = running(["faster-whisper-base", "openai/whisper-tiny"])
    assert set(engines) == {"faster-whisper", "transformers-speech"}
    assert set(variants) == {"faster-whisper-base", "openai/whisper-tiny"}
    assert not any(each.spec.suspend for each in variants.values())
    assert {each.metadata.namespace for each in (*engines.values(), *variants.values())} == {"models"}


@pytest.mark.parametrize(
    "name",
    ["voxtral-streaming-4b", "mistralai/Voxtral-Mini-4B-Realtime-2602", "parakeet-streaming-1-1b"],
    ids=["public id", "repository", "metadata.name"],
)
def test_a_model_is_named_by_any_name_that_is_its_own(name: str) -> None:
    found = only(name, catalogue={"gpuImages": True})
    assert name in (found.spec.served_name, *found.spec.alternate_names, found.metadata.name)


def test_the_others_are_shown_and_cost_nothing() -> None:
    engines, variants = running(["whisper-tiny"], catalogue={"show": True})
    assert set(variants) == {row.id for row in rows()}
    assert {name for name, each in variants.items() if not each.spec.suspend} == {"whisper-tiny"}
    assert {each.spec.engine_ref.name for each in variants.values() if each.spec.engine_ref} == set(engines)
    assert not set(variants) & set(unserved())


@pytest.mark.req("S2-6", "S2-7")
def test_an_overlay_finds_an_entry_by_name_and_the_local_one_wins() -> None:
    found = only(
        "whisper-tiny",
        models=[{"name": "whisper-tiny", "replicas": 2, "displayName": "Tiny of all clusters"}],
        modelsLocal=[{"name": "whisper-tiny", "displayName": "Tiny of this cluster"}],
    )
    assert (found.spec.replicas, found.spec.display_name) == (2, "Tiny of this cluster")
    assert found.spec.description == "Fastest, minimal accuracy"


@pytest.mark.req("S2-7")
def test_an_overlay_finds_an_entry_by_repository_and_may_give_it_another_id() -> None:
    found = only("bge", models=[{"repo": "BAAI/bge-m3", "name": "bge"}])
    assert (found.spec.served_name, found.metadata.name) == ("bge", "baai-bge-m3")
    assert found.spec.license == "MIT"


@pytest.mark.req("S2-7")
def test_a_name_goes_before_a_repository() -> None:
    found = only("whisper-base", models=[{"name": "whisper-base", "repo": "my-org/whisper-base-ct2"}])
    assert found.spec.source.hugging_face
    assert found.spec.source.hugging_face.repo == "my-org/whisper-base-ct2"
    assert found.spec.aliases == ("base",)


@pytest.mark.parametrize(
    "elsewhere",
    [{"repo": "my-org/base"}, {"source": {"huggingFace": {"repo": "my-org/base"}}}],
    ids=["by repo", "by source"],
)
def test_a_commit_is_of_its_repository_alone(elsewhere: Manifest) -> None:
    pinned = only("whisper-base").spec.source.hugging_face
    moved = only("whisper-base", models=[{"name": "whisper-base", **elsewhere}]).spec.source.hugging_face
    assert pinned
    assert moved
    assert (bool(pinned.revision), moved.repo, moved.revision) == (True, "my-org/base", None)


def test_another_name_of_an_entry_finds_it_and_does_not_take_its_id() -> None:
    found = only("parakeet-0.6b", models=[{"name": "parakeet-0-6b", "replicas": 3}])
    assert (found.spec.served_name, found.spec.replicas) == ("parakeet-0.6b", 3)


@pytest.mark.req("S2-7", "S2-16")
def test_what_an_overlay_does_not_find_is_added() -> None:
    found = only("my-embedding", models=[MINE])
    assert found.spec.engine_ref
    assert found.spec.engine_ref.name == "transformers-embeddings"
    assert found.spec.source.type is SourceType.HUGGING_FACE
    assert found.spec.source.format == "Safetensors"


@pytest.mark.req("S2-8")
def test_a_public_id_is_its_repository_s_name_by_default() -> None:
    found = only("my-org/My-Model.v2", models=[{"repo": "my-org/My-Model.v2", "engine": "transformers-chat"}])
    assert (found.spec.served_name, found.metadata.name) == ("my-org/My-Model.v2", "my-org-my-model-v2")
    listed = {row.id for row in rows("S2-2", "S2-3", "S2-4", "S2-5")}
    assert listed == {row.repo for row in rows("S2-2", "S2-3", "S2-4", "S2-5")}


def test_what_is_laid_over_goes_member_by_member_zeros_and_nulls_included() -> None:
    found = only(
        "whisper-large-v3",
        catalogue={"gpuImages": True},
        models=[
            {"name": "whisper-large-v3", "replicas": 2, "selection": {"priority": 5}},
        ],
        modelsLocal=[
            {
                "name": "whisper-large-v3",
                "replicas": 0,
                "selection": {"priority": 0},
                "aliases": [],
                "engineModelName": None,
                "hardware": {"gpu": {"displayMemory": None, "products": ["NVIDIA-L4"]}},
                "source": {"huggingFace": {"revision": "edaa852"}},
            }
        ],
    )
    spec = found.spec
    assert (spec.replicas, spec.selection.priority, spec.aliases, spec.engine_model_name) == (0, 0, (), None)
    assert spec.selection.speed_tier == "Accurate"
    assert spec.hardware
    assert spec.hardware.gpu
    assert (spec.hardware.gpu.min_memory, spec.hardware.gpu.display_memory) == ("6G", None)
    assert spec.hardware.gpu.products == ("NVIDIA-L4",)
    assert spec.source.hugging_face
    assert (spec.source.hugging_face.repo, spec.source.hugging_face.revision) == (
        "Systran/faster-whisper-large-v3",
        "edaa852",
    )


def test_weights_may_come_from_elsewhere() -> None:
    bucket = {"type": "S3", "s3": {"bucket": "models", "prefix": "bge-m3"}, "format": "Safetensors"}
    found = only("BAAI/bge-m3", models=[{"name": "BAAI/bge-m3", "source": bucket}])
    assert found.spec.source.s3
    assert found.spec.source.hugging_face is None
    assert not found.spec.source.allow


def test_one_more_model_of_weights_that_are_there() -> None:
    again = {
        "name": "tiny-again",
        "repo": "openai/whisper-tiny",
        "engine": "transformers-speech",
        "new": True,
    }
    variants = running(["tiny-again", "whisper-base"], models=[again])[1]
    assert set(variants) == {"tiny-again", "whisper-base"}


def test_a_model_may_leave_the_choice_of_its_engine_to_the_operator() -> None:
    selector = {"stage": "Transcribe", "features": ["Translation"]}
    chosen = [{"name": "whisper-large-v3", "engineSelector": selector}]
    engines, variants = running(["whisper-large-v3"], models=chosen)
    assert engines == {}
    assert variants["whisper-large-v3"].spec.engine_ref is None
    assert variants["whisper-large-v3"].spec.engine_selector


def test_a_model_moves_to_another_engine_by_a_line() -> None:
    moved = [{"name": "whisper-large-v3", "engine": "faster-whisper"}]
    engines, variants = running(["whisper-large-v3"], models=moved)
    assert set(engines) == {"faster-whisper"}
    assert variants["whisper-large-v3"].spec.hardware


def test_without_images_for_gpus_none_is_held_by_who_can_do_without() -> None:
    for images, mode, tag in ((False, GPUMode.NONE, "0.1.0"), (True, GPUMode.OPTIONAL, "0.1.0-cuda")):
        [engine] = running(["parakeet-0.6b"], catalogue={"gpuImages": images})[0].values()
        assert engine.spec.hardware
        assert engine.spec.hardware.gpu
        assert engine.spec.hardware.gpu.mode is mode
        assert engine.spec.workload
        assert engine.spec.workload.image == f"localhost/roundhouse/nemo:{tag}"


def test_engines_take_their_images_from_the_release_s_registry() -> None:
    image = {"registry": "registry.example/rh/", "tag": "1.2.3", "pullPolicy": "Always"}
    [engine] = running(["whisper-tiny"], image=image, imagePullSecrets=[{"name": "regcred"}])[0].values()
    assert engine.spec.workload
    assert engine.spec.workload.image == "registry.example/rh/faster-whisper:1.2.3"
    assert engine.spec.workload.image_pull_policy == "Always"
    assert [each.name for each in engine.spec.workload.image_pull_secrets] == ["regcred"]


def test_an_engine_is_changed_and_one_is_added() -> None:
    changed = {"name": "faster-whisper", "workload": {"env": [{"name": "OMP_NUM_THREADS", "value": "8"}]}}
    mine = {
        "name": "mine",
        "image": {"name": "mine", "tag": "7"},
        "stage": "Transcribe",
        "hardware": {"gpu": {"mode": "None"}},
        "cache": {"type": "Ephemeral"},
    }
    model = {"name": "my-model", "engine": "mine"}
    engines, variants = running(["whisper-tiny", "my-model"], engines=[changed, mine], models=[model])
    whisper, own = engines["faster-whisper"].spec, engines["mine"].spec
    assert whisper.workload
    assert whisper.workload.env[0].value == "8"
    assert whisper.workload.image == "localhost/roundhouse/faster-whisper:0.1.0"
    assert own.workload
    assert own.workload.image == "localhost/roundhouse/mine:7"
    assert own.cache
    assert own.cache.type is CacheType.EPHEMERAL
    assert whisper.cache
    assert whisper.cache.type is CacheType.PVC
    assert variants["my-model"].spec.source.type is SourceType.BUILTIN


def test_a_gated_model_is_fetched_with_the_token_that_the_values_name() -> None:
    token = {"secretName": "hub", "key": "token"}
    found = only("google/embeddinggemma-300m", catalogue={"hubToken": token})
    assert found.spec.source.hugging_face
    assert found.spec.source.hugging_face.token_secret_ref
    assert found.spec.source.hugging_face.token_secret_ref.name == "hub"
    open_one = only("BAAI/bge-m3", catalogue={"hubToken": token})
    assert open_one.spec.source.hugging_face
    assert open_one.spec.source.hugging_face.token_secret_ref is None


def test_what_nobody_serves_runs_on_an_engine_of_ones_own() -> None:
    mine: Manifest = {"name": "qwen-asr", "type": "Upstream", "stage": "Transcribe", "interfaces": ["Batch"]}
    mine |= {"version": "1", "upstream": {"baseURL": "https://asr.example/v1"}}
    laid = {"name": "Qwen/Qwen3-ASR-1.7B-hf", "enabled": True, "engine": "qwen-asr", "hardware": None}
    engines, variants = running(["Qwen/Qwen3-ASR-1.7B-hf"], engines=[mine], models=[laid])
    assert engines["qwen-asr"].spec.workload is None
    assert variants["Qwen/Qwen3-ASR-1.7B-hf"].spec.license == "Apache-2.0"


def test_it_goes_where_the_operator_serves() -> None:
    values: Manifest = {
        "operator": {"namespaces": ["speech", "chat"]},
        "catalogue": {"run": ["whisper-tiny"]},
    }
    made = [each for each in render(values) if each["kind"] in ("Engine", "ModelVariant")]
    assert {each["metadata"]["namespace"] for each in made} == {"speech"}
    values["catalogue"] |= {"namespace": "chat"}
    made = [each for each in render(values) if each["kind"] in ("Engine", "ModelVariant")]
    assert {each["metadata"]["namespace"] for each in made} == {"chat"}


def test_the_notes_say_what_runs_or_how_to_run_one() -> None:
    assert "catalogue.run={faster-whisper-base}" in notes({})
    told = notes({"catalogue": {"run": ["whisper-tiny"], "show": True}})
    assert "The catalogue runs whisper-tiny." in told
