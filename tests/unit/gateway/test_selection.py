"""The rules by which a name or `auto` becomes a model."""

from dataclasses import dataclass, replace
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_api.enums import CostTier, Feature, Interface, SpeedTier, Stage, Streaming, WordTimestamps
from roundhouse_api.selection import (
    Catalogue,
    MismatchReason,
    Model,
    ModelStatus,
    Needs,
    UnknownModelError,
    explain,
    mismatch,
    nothing_fits,
    primary_language,
    ranked,
)
from tests.unit.gateway.registry import LANGUAGES, PARAKEET, REGISTRY, STREAMING

BATCH = Needs(stage=Stage.TRANSCRIBE)


@pytest.mark.req("S0-2", "S0-20", "S1-1")
@pytest.mark.parametrize("model", REGISTRY, ids=lambda model: model.id)
def test_an_exact_id_gives_its_engine_and_engine_model(model: Model) -> None:
    found = Catalogue(REGISTRY).resolve(model.id)
    assert (found.engine, found.engine_model) == (model.engine, model.engine_model)


@pytest.mark.req("S0-5", "S0-20")
@pytest.mark.parametrize(
    ("alias", "expected"),
    [
        ("fast", "distil-whisper"),
        ("accurate", "whisper-large-v3"),
        ("large", "whisper-large-v3"),
        ("medium", "whisper-medium"),
        ("small", "whisper-small"),
        ("base", "whisper-base"),
        ("tiny", "whisper-tiny"),
    ],
)
def test_every_alias_resolves(alias: str, expected: str) -> None:
    catalogue = Catalogue(REGISTRY)
    assert catalogue.resolve(alias).id == expected
    assert catalogue.aliases()[alias] == expected


@pytest.mark.req("S0-7", "S0-20")
def test_an_unknown_name_is_answered_with_the_sorted_ids_without_aliases() -> None:
    with pytest.raises(ValueError, match="Unknown model") as raised:
        Catalogue(REGISTRY).resolve("nonexistent")
    assert isinstance(raised.value, UnknownModelError)
    assert str(raised.value) == (
        "Unknown model: 'nonexistent'. Available models: distil-whisper, whisper-base, whisper-large-v2, "
        "whisper-large-v3, whisper-medium, whisper-small, whisper-tiny"
    )


@pytest.mark.req("S0-8", "S0-20")
def test_ids_and_models_are_listed_without_aliases() -> None:
    catalogue = Catalogue(REGISTRY)
    assert catalogue.get_model_ids() == sorted(model.id for model in REGISTRY)
    assert [model.id for model in catalogue.get_available_models()] == catalogue.get_model_ids()


def test_an_exact_id_wins_over_an_alternate_name_and_that_over_an_alias() -> None:
    exact = replace(REGISTRY[0], id="x", aliases=())
    alternate = replace(REGISTRY[0], id="y", alternate_names=("x", "z"), aliases=())
    alias = replace(REGISTRY[0], id="w", aliases=("x", "z"))
    catalogue = Catalogue([alias, alternate, exact])
    assert catalogue.resolve("x") is exact
    assert catalogue.resolve("z") is alternate
    assert catalogue.aliases() == {}


@dataclass(frozen=True)
class Choice:
    id: str
    models: tuple[Model, ...]
    needs: Needs
    expected: str | None
    reason: str


WHISPER = REGISTRY[0]
CHOICES = (
    Choice(
        "unknown-speech", (WHISPER, PARAKEET), BATCH, "whisper-large-v3", "English alone would be a guess"
    ),
    Choice(
        "unknown-speech-any",
        (replace(WHISPER, languages=frozenset({"*"})), PARAKEET),
        BATCH,
        WHISPER.id,
        "any",
    ),
    Choice("only-english-there", (PARAKEET,), BATCH, PARAKEET.id, "the house speaks English"),
    Choice(
        "only-english-runs",
        (replace(WHISPER, status=ModelStatus.AVAILABLE), PARAKEET),
        BATCH,
        None,
        "English alone would be a guess, and another model could tell",
    ),
    Choice(
        "another-stage-of-many-languages",
        (replace(WHISPER, stage=Stage.EMBED), PARAKEET),
        BATCH,
        PARAKEET.id,
        "what does not transcribe is no alternative",
    ),
    Choice(
        "text-is-no-speech",
        (
            replace(PARAKEET, stage=Stage.EMBED),
            replace(WHISPER, stage=Stage.EMBED, status=ModelStatus.AVAILABLE),
        ),
        Needs(stage=Stage.EMBED),
        PARAKEET.id,
        "the rule is about speech",
    ),
    Choice(
        "feature",
        (WHISPER, replace(REGISTRY[5], features=frozenset({Feature.DIARIZATION}), priority=-9)),
        replace(BATCH, features=frozenset({Feature.DIARIZATION})),
        "whisper-tiny",
        "the only one that tells speakers apart",
    ),
    Choice(
        "feature-of-none",
        (WHISPER,),
        replace(BATCH, features=frozenset({Feature.STRUCTURED_OUTPUTS})),
        None,
        "it has none",
    ),
    Choice(
        "classes",
        (replace(WHISPER, classes=frozenset({"quality"})), replace(REGISTRY[5], priority=9)),
        replace(BATCH, classes=frozenset({"quality"})),
        WHISPER.id,
        "a wish ranks before priority",
    ),
    Choice(
        "classes-of-none",
        (REGISTRY[5],),
        replace(BATCH, classes=frozenset({"quality"})),
        "whisper-tiny",
        "and excludes nobody",
    ),
    Choice(
        "english",
        (WHISPER, PARAKEET),
        replace(BATCH, language="en"),
        PARAKEET.id,
        "known language: speed decides",
    ),
    Choice("croatian", (WHISPER, PARAKEET), replace(BATCH, language="hr"), WHISPER.id, "the only one"),
    Choice("klingon", (WHISPER, PARAKEET), replace(BATCH, language="tlh"), None, "nobody speaks it"),
    Choice(
        "native-words",
        (replace(WHISPER, real_time_factor=0.0001, priority=9), PARAKEET),
        replace(BATCH, language="en", word_timestamps=True),
        PARAKEET.id,
        "native timestamps rank above alignment",
    ),
    Choice(
        "aligned-words", (WHISPER,), replace(BATCH, word_timestamps=True), WHISPER.id, "alignment satisfies"
    ),
    Choice("no-words", (STREAMING,), replace(BATCH, word_timestamps=True), None, "it has none"),
    Choice(
        "stopped",
        (replace(WHISPER, status=ModelStatus.AVAILABLE),),
        BATCH,
        None,
        "what does not run is not chosen",
    ),
    Choice(
        "unhealthy", (replace(WHISPER, status=ModelStatus.UNHEALTHY),), BATCH, None, "nor what is unhealthy"
    ),
    Choice(
        "priority", (REGISTRY[5], replace(WHISPER, priority=1)), BATCH, WHISPER.id, "priority before speed"
    ),
    Choice("speed", (REGISTRY[2], REGISTRY[5]), BATCH, "whisper-tiny", "the higher speed factor"),
    Choice(
        "tier-fast",
        (replace(REGISTRY[3], priority=5), REGISTRY[5]),
        replace(BATCH, tier=SpeedTier.FAST),
        "whisper-tiny",
        "fast means the fastest available",
    ),
    Choice(
        "tier", REGISTRY, replace(BATCH, tier=SpeedTier.ACCURATE), "whisper-large-v2", "tie broken by name"
    ),
    Choice(
        "tier-near",
        REGISTRY[2:],
        replace(BATCH, tier=SpeedTier.ACCURATE),
        "whisper-medium",
        "the nearest tier",
    ),
    Choice(
        "cost-tier",
        (WHISPER, replace(REGISTRY[5], cost_tiers=frozenset({CostTier.BUDGET}), priority=-5)),
        replace(BATCH, tier=CostTier.BUDGET),
        "whisper-tiny",
        "both vocabularies of tier",
    ),
    Choice("batch", (STREAMING,), BATCH, None, "a realtime engine serves no files"),
    Choice(
        "realtime",
        (WHISPER, STREAMING),
        replace(BATCH, interface=Interface.REALTIME, streaming=True),
        STREAMING.id,
        "the one that streams",
    ),
    Choice(
        "native-streaming",
        (STREAMING, replace(STREAMING, id="z", streaming=Streaming.NATIVE, real_time_factor=1.0)),
        replace(BATCH, interface=Interface.REALTIME, streaming=True),
        "z",
        "native streaming ranks above chunked",
    ),
    Choice("no-engine", (replace(WHISPER, stage=None),), BATCH, None, "nobody knows what it does"),
    Choice("stage", (replace(WHISPER, stage=Stage.ALIGN),), BATCH, None, "another stage"),
    Choice(
        "no-claims",
        (replace(WHISPER, languages=None),),
        replace(BATCH, language="xx"),
        WHISPER.id,
        "no claim",
    ),
)


@pytest.mark.req("S1-2", "S1-6", "S1-22", "S1-23", "S1-26")
@pytest.mark.parametrize("case", CHOICES, ids=lambda case: case.id)
def test_auto_chooses(case: Choice) -> None:
    catalogue = Catalogue(case.models)
    chosen = next(ranked(catalogue, case.needs), None)
    assert (chosen and chosen.id) == case.expected, case.reason


@pytest.mark.req("S1-18")
@pytest.mark.parametrize(
    ("needs", "text"),
    [
        (replace(BATCH, language="hr"), "No engine available for stage 'transcribe' with language 'hr'"),
        (BATCH, "No engine available for stage 'transcribe'"),
        (
            replace(BATCH, language="hr", word_timestamps=True),
            "No engine available for stage 'transcribe' with language 'hr' and word timestamps",
        ),
    ],
)
def test_the_text_when_nothing_fits(needs: Needs, text: str) -> None:
    assert str(nothing_fits(Catalogue(()), needs)) == text


@pytest.mark.parametrize(
    ("found", "hopeless"),
    [
        ((PARAKEET,), True),
        ((PARAKEET, replace(WHISPER, status=ModelStatus.AVAILABLE)), False),
        ((PARAKEET, replace(WHISPER, status=ModelStatus.UNHEALTHY)), False),
        ((PARAKEET, replace(WHISPER, stage=None, status=ModelStatus.AVAILABLE)), False),
        ((), False),
    ],
)
def test_hopeless_is_what_no_model_could_do_if_it_ran(found: tuple[Model, ...], hopeless: bool) -> None:
    assert nothing_fits(Catalogue(found), replace(BATCH, language="hr")).hopeless is hopeless


def test_explain_gives_every_candidate_a_verdict() -> None:
    stopped = replace(WHISPER, id="a-stopped", status=ModelStatus.AVAILABLE)
    verdicts = tuple(explain(Catalogue([PARAKEET, stopped, STREAMING, *REGISTRY[4:6]]), BATCH))
    assert [(verdict.model.id, verdict.chosen) for verdict in verdicts] == [
        ("whisper-tiny", True),
        ("whisper-base", False),
        ("a-stopped", False),
        ("parakeet-0.6b", False),
        ("whisper-streaming-base", False),
    ]
    reasons = [verdict.mismatch and verdict.mismatch.reason for verdict in verdicts]
    assert reasons == [
        None,
        None,
        MismatchReason.NOT_RUNNING,
        MismatchReason.ONE_LANGUAGE,
        MismatchReason.INTERFACE,
    ]


def test_a_mismatch_says_what_is_missing() -> None:
    found = mismatch(PARAKEET, replace(BATCH, language="hr"))
    assert found is not None
    assert found.message == "does not support language 'hr', only en"


@pytest.mark.parametrize(
    ("code", "expected"), [("en", "en"), ("en-US", "en"), ("pt_BR", "pt"), (" DE ", "de")]
)
def test_a_region_is_not_a_language(code: str, expected: str) -> None:
    assert primary_language(code) == expected


models = st.builds(
    Model,
    id=st.sampled_from("abcdefgh"),
    stage=st.just(Stage.TRANSCRIBE),
    engine=st.just("e"),
    engine_model=st.just("m"),
    status=st.sampled_from(ModelStatus),
    interfaces=st.frozensets(st.sampled_from(Interface), min_size=1),
    languages=st.none() | st.frozensets(st.sampled_from(sorted(LANGUAGES)), min_size=1),
    streaming=st.sampled_from(Streaming),
    word_timestamps=st.sampled_from(WordTimestamps),
    speed_tier=st.none() | st.sampled_from(SpeedTier),
    real_time_factor=st.none() | st.floats(0.001, 2),
    priority=st.integers(-3, 3),
)
needs = st.builds(
    Needs,
    stage=st.just(Stage.TRANSCRIBE),
    interface=st.sampled_from(Interface),
    language=st.none() | st.sampled_from(sorted(LANGUAGES)),
    streaming=st.booleans(),
    word_timestamps=st.booleans(),
    tier=st.none() | st.sampled_from([*SpeedTier, *CostTier]),
)


@given(st.lists(models, max_size=8), needs)
def test_what_explain_chooses_is_first_and_never_what_does_not_fit(found: list[Model], wanted: Needs) -> None:
    catalogue = Catalogue(found)
    chosen = [verdict.model for verdict in explain(catalogue, wanted) if verdict.chosen]
    assert chosen == list(islice(ranked(catalogue, wanted), 1))
    for model in chosen:
        assert model.running
        assert mismatch(model, wanted) is None


@given(st.lists(models, max_size=8), needs, st.randoms())
def test_the_choice_does_not_hang_on_the_order_of_distinct_models(
    found: list[Model], wanted: Needs, random: object
) -> None:
    distinct = list({model.id: model for model in found}.values())
    forwards, backwards = Catalogue(distinct), Catalogue(distinct[::-1])
    assert list(explain(forwards, wanted)) == list(explain(backwards, wanted))
