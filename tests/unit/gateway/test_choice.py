"""What is told where a request gets no model: never more than its key may see."""

from dataclasses import replace

import pytest

from roundhouse_api.enums import ConditionStatus, Feature, Interface
from roundhouse_api.keys import Grant, Scope
from roundhouse_gateway.choice import Search, choose, refusal_of_auto
from roundhouse_gateway.errors import (
    HopelessRequestError,
    NoEngineError,
    NotRunningError,
    UnknownModelRequestError,
)
from roundhouse_gateway.key_errors import ModelNotAllowedError
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.realtime.closing import close_message, ending_of
from roundhouse_gateway.records import Summary
from roundhouse_gateway.selecting import explained
from tests.unit.gateway.test_fallbacks import ENGLISH, TRANSCRIBE, house, model

OWN, ALL = Grant(models=("own*",)), Grant()
SEARCH = Search(Metrics(lambda: 0.0, lambda: 0))
SPEAKS_TWO = house(
    model("english", effective=ENGLISH), model("own-asleep"), model("many"), asleep=("own-asleep", "many")
)


def test_no_model_is_named_that_the_key_may_not_use() -> None:
    told = refusal_of_auto(SPEAKS_TWO, TRANSCRIBE, ALL)
    assert "'english' runs and understands 'en' alone" in told.message
    told = refusal_of_auto(SPEAKS_TWO, TRANSCRIBE, OWN)
    assert told.message == (
        "No engine available for stage 'transcribe'. 'own-asleep' could answer and is not running: "
        "no endpoint answers just now."
    )
    assert explained(SPEAKS_TWO, TRANSCRIBE, OWN, 10)["message"] == told.message


def test_many_names_are_cut_short_in_the_message() -> None:
    snapshot = house(*(model(f"own-{number}") for number in range(12)))
    with pytest.raises(UnknownModelRequestError) as refused:
        choose(snapshot, "nobody", TRANSCRIBE, SEARCH, OWN)
    named = sorted(f"own-{number}" for number in range(12))[:10]
    listed = f"Models here: {', '.join(named)}; `GET /v1/models` lists more."
    assert refused.value.message == f"Engine 'nobody' not found. {listed}"


def test_auto_is_not_what_a_key_may_not_use() -> None:
    refused = refusal_of_auto(house(model("many")), TRANSCRIBE, OWN)
    assert (refused.status, refused.code) == (403, "model_not_allowed")
    assert "may use no model for stage 'transcribe'" in refused.message
    assert "scope 'models'" in refused.message, "without it the list is refused as well"


def test_what_another_key_may_wait_for_is_hopeless_for_this_one() -> None:
    snapshot = house(model("many"), model("own", effective=ENGLISH), asleep=("many",))
    portuguese = replace(TRANSCRIBE, language="pt")
    assert isinstance(refusal_of_auto(snapshot, portuguese, OWN), HopelessRequestError)
    found = refusal_of_auto(snapshot, portuguese, ALL)
    assert isinstance(found, NoEngineError)
    assert not isinstance(found, HopelessRequestError)


def test_select_tells_the_refusal_that_a_request_would_get() -> None:
    snapshot = house(model("many"))
    with pytest.raises(ModelNotAllowedError) as refused:
        choose(snapshot, "auto", TRANSCRIBE, SEARCH, OWN)
    assert explained(snapshot, TRANSCRIBE, OWN, 10)["message"] == refused.value.message


@pytest.mark.parametrize(
    ("scope", "says"), [(Scope.MODELS, "(NoGPU): none on node-1. It"), (Scope.TRANSCRIBE, "(NoGPU). It")]
)
def test_the_words_of_a_state_are_for_those_who_may_look_at_models(scope: Scope, says: str) -> None:
    no_gpu = Summary(ConditionStatus.FALSE, "NoGPU", "none on node-1")
    snapshot = house(replace(model("own"), ready=no_gpu), asleep=("own",))
    for name in ("own", "auto"):
        with pytest.raises((NotRunningError, NoEngineError)) as refused:
            choose(snapshot, name, TRANSCRIBE, SEARCH, Grant(scopes=frozenset({scope})))
        assert says in refused.value.message
        assert (refused.value.retry_after, refused.value.retry_is_useless) == (None, True)


def test_a_refusal_names_what_was_asked_for_and_not_what_that_stands_for() -> None:
    with pytest.raises(ModelNotAllowedError) as refused:
        choose(house(model("many")), "many-alias", TRANSCRIBE, SEARCH, OWN)
    assert "'many-alias'" in refused.value.message
    assert "'many'" not in refused.value.message


def test_the_names_there_are_are_gathered_only_where_somebody_reads_them() -> None:
    snapshot = house(model("many"), model("own"), model("own-too"))
    with pytest.raises(UnknownModelRequestError) as refused:
        choose(snapshot, "nobody", TRANSCRIBE, SEARCH, OWN)
    assert snapshot.of_keys == {}
    assert refused.value.detail == {
        "type": "invalid_request_error",
        "message": "Unknown model: 'nobody'. Available models: own, own-too",
        "param": "model",
    }


@pytest.mark.req("S1-18")
def test_a_feature_that_no_model_has_is_told_as_such() -> None:
    translation = replace(TRANSCRIBE, features=frozenset({Feature.TRANSLATION}))
    refused = refusal_of_auto(house(model("many"), asleep=("many",)), translation, ALL)
    assert (refused.status, isinstance(refused, HopelessRequestError)) == (503, True)
    assert refused.message == (
        "No engine available for stage 'transcribe' with translation. No model here could, running or not: "
        "`GET /v1/select?stage=transcribe&feature=translation` says why not of each."
    )


@pytest.mark.req("S0-17")
def test_why_a_session_is_closed_is_told_in_whole_words() -> None:
    sessions = replace(TRANSCRIBE, interface=Interface.REALTIME)
    with pytest.raises(UnknownModelRequestError) as refused:
        choose(house(model("many")), "nope", sessions, SEARCH, ALL)
    said = close_message(ending_of(refused.value))["reason"]
    assert said == (
        "Unknown model: 'nope'. Available models: none of this kind. "
        "`GET /v1/models` lists the models that there are."
    )
    with pytest.raises(UnknownModelRequestError) as refused:
        choose(house(*(model(f"listens-to-{number}") for number in range(9))), "é", TRANSCRIBE, SEARCH, ALL)
    said = close_message(ending_of(refused.value))["reason"]
    listed = ", ".join(f"listens-to-{number}" for number in range(5))
    assert said == f"Unknown model: 'é'. Available models: {listed}, …"
    assert len(said.encode()) <= 123, "which is all that a close frame holds"
