"""The models: what they read, what they refuse, and how they say so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from roundhouse_api.names import RESERVED_SERVED_NAME
from roundhouse_api.v1alpha1 import (
    CostTier,
    DownloadPolicy,
    Engine,
    Pooling,
    SpeedTier,
    Stage,
    WordTimestamps,
    problems,
)
from tests.unit.api.manifests import engine, policy, variant

NAMES = st.lists(st.sampled_from(["auto", "a", "a/b", "A/b.c:d", "x@1", "C++", "7"]), max_size=3)


def refused(**spec: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        variant(**spec)
    return "\n".join(problems(caught.value))


def test_defaults_are_there_without_being_written() -> None:
    spec = variant().spec
    assert (spec.replicas, spec.suspend, spec.download_policy) == (1, False, DownloadPolicy.AUTO)
    assert spec.selection.priority == 0
    assert spec.aliases == ()
    assert engine().spec.api.port == 8000
    assert policy().spec.served_names == (RESERVED_SERVED_NAME,)


def test_absent_and_empty_differ_where_absent_means_inherited() -> None:
    inherits = variant(capabilities={}).spec.capabilities
    has_none = variant(capabilities={"features": []}).spec.capabilities
    assert inherits is not None
    assert has_none is not None
    assert (inherits.features, has_none.features) == (None, ())


def test_fields_of_a_newer_api_are_ignored() -> None:
    assert variant(fieldOfTheFuture={"a": 1}) == variant()


def test_values_of_a_newer_api_are_refused_by_name() -> None:
    said = refused(downloadPolicy="Mirror")
    assert said == "spec.downloadPolicy: Input should be 'Auto', 'Never' or 'Skip'"


def test_a_resource_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        variant().spec.replicas = 3  # type: ignore[misc]  # what mypy forbids is shown to fail


def test_fields_can_be_given_by_their_python_names() -> None:
    assert variant(served_name="a/b").spec.served_name == "a/b"


def test_all_that_is_wrong_is_said_with_its_place() -> None:
    said = refused(replicas="1", env=[{"name": "A"}], source={"type": "S3"}, aliases=["x", "x"]).splitlines()
    assert said == [
        "spec.aliases: Duplicate value: 'x' may stand here only once",
        "spec.env[0].value: Field required",
        "spec.replicas: Input should be a valid integer",
        "spec.source: `s3` must be set exactly when `type` is S3",
    ]


def test_a_rule_of_the_whole_object_needs_no_place() -> None:
    with pytest.raises(ValidationError) as caught:
        Engine.model_validate({"metadata": {"name": "with.dot"}, "spec": engine().spec.model_dump()})
    assert problems(caught.value) == ("metadata.name must be a DNS-1035 label of at most 40 characters",)


@given(NAMES, NAMES)
def test_names_are_accepted_exactly_when_none_repeats_and_none_is_reserved(
    alternates: list[str], aliases: list[str]
) -> None:
    names = [*alternates, *aliases]
    right = len(set(names)) == len(names) and RESERVED_SERVED_NAME not in names
    if right:
        assert variant(alternateNames=alternates, aliases=aliases).spec.aliases == tuple(aliases)
    else:
        assert refused(alternateNames=alternates, aliases=aliases)


@given(st.integers(-5, 20), st.integers(-5, 20))
def test_scaling_bounds(fewest: int, most: int) -> None:
    scaling = {"minReplicas": fewest, "maxReplicas": most}
    if 0 <= fewest <= most and most >= 1:
        assert variant(scaling=scaling).spec.scaling is not None
    else:
        assert "spec.scaling" in refused(scaling=scaling)


@pytest.mark.req("S0-3")
def test_a_variant_says_all_that_a_model_definition_says() -> None:
    spec = variant(
        servedName="distil-whisper",
        engineRef={"name": "faster-whisper"},
        engineModelName="distil-large-v3",
        displayName="Distil-Whisper",
        description="Fast English-only, near large-v3 accuracy",
        selection={"speedTier": "Fast"},
        capabilities={
            "languages": ["en"],
            "languageCount": 1,
            "streaming": "None",
            "wordTimestamps": "Native",
        },
        hardware={"gpu": {"displayMemory": "5G"}},
        performance={"speedFactor": "6.0"},
    ).spec
    written = spec.model_dump(by_alias=True, exclude_none=True, mode="json")
    assert written["engineRef"] == {"kind": "Engine", "name": "faster-whisper"}
    assert (written["servedName"], written["engineModelName"]) == ("distil-whisper", "distil-large-v3")
    assert written["selection"]["speedTier"] == "Fast"
    assert written["hardware"]["gpu"]["displayMemory"] == "5G"
    assert written["performance"]["speedFactor"] == "6.0"
    assert set(SpeedTier) == {"Fast", "Balanced", "Accurate"}
    assert "spec.selection.speedTier" in refused(selection={"speedTier": "Slow"})


@pytest.mark.req("S1-26")
def test_the_stage_is_a_field_of_its_own() -> None:
    assert engine(stage="Diarize").spec.stage is Stage.DIARIZE
    assert {"Transcribe", "Align", "Diarize"} <= set(Stage)
    with pytest.raises(ValidationError, match=r"spec\.stage"):
        engine(stage="translate")


@pytest.mark.req("S1-27")
@pytest.mark.parametrize(
    ("languages", "right"),
    [
        (["en"], True),
        (["en", "hr", "no"], True),
        (["yue"], True),
        (["*"], True),
        (["*", "en"], False),
        (["English"], False),
        (["EN"], False),
        ([99], False),
    ],
)
def test_languages_are_codes_or_any(languages: list[object], right: bool) -> None:
    capabilities = {"languages": languages, "languageCount": 99}
    if right:
        assert variant(capabilities=capabilities).spec.capabilities is not None
    else:
        assert "spec.capabilities" in refused(capabilities=capabilities)


@pytest.mark.req("S1-28")
def test_an_engine_has_a_version() -> None:
    assert engine(version="1.0.0").spec.version == "1.0.0"
    for wrong in (None, "", 1.0):
        with pytest.raises(ValidationError, match=r"spec\.version"):
            engine(version=wrong)


@pytest.mark.req("S1-29")
def test_word_timestamps_say_where_they_come_from() -> None:
    assert list(WordTimestamps) == ["None", "Alignment", "Native"]
    capabilities = engine(capabilities={"wordTimestamps": "Alignment"}).spec.capabilities
    assert capabilities is not None
    assert capabilities.word_timestamps is WordTimestamps.ALIGNMENT


@pytest.mark.req("S2-9")
def test_a_hugging_face_source_needs_its_repository() -> None:
    assert "spec.source.huggingFace.repo: Field required" in refused(
        source={"type": "HuggingFace", "huggingFace": {}}
    )
    assert "`huggingFace` must be set exactly when `type`" in refused(source={"type": "HuggingFace"})


@pytest.mark.req("S2-12")
def test_pooling_is_optional_and_closed() -> None:
    assert {Pooling.MEAN, Pooling.LAST_TOKEN} <= set(Pooling)
    assert variant(capabilities={"embedding": {"dimensions": 1024}}).spec.capabilities is not None
    assert "pooling" in refused(capabilities={"embedding": {"pooling": "max"}})


@pytest.mark.req("S4-2", "S4-3")
def test_cost_tiers_are_closed_and_classes_are_free() -> None:
    assert list(CostTier) == ["Premium", "Budget", "Fallback"]
    selection = variant(
        selection={"costTiers": ["Budget", "Fallback"], "classes": ["fast", "quality", "balanced"]}
    ).spec.selection
    assert selection.cost_tiers == (CostTier.BUDGET, CostTier.FALLBACK)
    assert selection.classes == ("fast", "quality", "balanced")
    assert "costTiers" in refused(selection={"costTiers": ["Cheap"]})
