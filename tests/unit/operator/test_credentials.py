"""The Secret of an upstream: looked at by its metadata, refused where it is not meant for that."""

from __future__ import annotations

from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.credentials import asked_of, refuse_credential
from roundhouse_operator.core.kinds import ENGINE, VARIANT, Key
from roundhouse_operator.core.status.engine import Usage, engine_status
from roundhouse_operator.core.weights.asked import Answer, Ask, AskedKind
from tests.unit.operator.samples import engine, upstream, variant
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, conditions, message, sent

KEYED: Manifest = {
    "baseURL": "https://api.example.org/v1",
    "apiKeySecretRef": {"name": "hosted", "key": "token"},
}


def status_with(answer: Answer, **spec: Any) -> Manifest:
    scene = Scene(upstream(upstream=KEYED, **spec))
    found = scene.cache.resource(Key(ENGINE, NAMESPACE, "elsewhere"))
    assert found
    ask = asked_of(found)
    assert ask
    trouble = refuse_credential(ask, answer)
    return engine_status(found, Usage(), scene.cache.fleet, now=NOW, credential=trouble)


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (Answer(found=False), "SecretNotFound", "Secret 'hosted' does not exist in this namespace"),
        (Answer(found=True), "SecretNotLabelled", "lacks the label roundhouse.dev/credential"),
        (
            Answer(True, {"roundhouse.dev/credential": "weights"}),
            "SecretNotLabelled",
            "has the label roundhouse.dev/credential=weights: it must be 'upstream'",
        ),
    ],
)
def test_a_secret_that_may_not_be_used_is_named(answer: Answer, reason: str, words: str) -> None:
    status = status_with(answer)
    assert conditions(status)["Ready"] == ("False", reason)
    assert words in message(status, "Accepted")


def test_one_that_is_labelled_is_not_in_the_way() -> None:
    status = status_with(Answer(True, {"roundhouse.dev/credential": "upstream"}))
    assert conditions(status)["Accepted"][1] not in ("SecretNotFound", "SecretNotLabelled")


def test_an_address_that_nobody_may_call_comes_first() -> None:
    forbidden = {**KEYED, "baseURL": "http://127.0.0.1/v1"}
    scene = Scene(upstream(upstream=forbidden))
    found = scene.cache.resource(Key(ENGINE, NAMESPACE, "elsewhere"))
    assert found
    ask = asked_of(found)
    assert ask
    trouble = refuse_credential(ask, Answer(found=False))
    status = engine_status(found, Usage(), scene.cache.fleet, now=NOW, credential=trouble)
    assert conditions(status)["Accepted"] == ("False", "ForbiddenAddress")


def test_an_engine_of_pods_names_no_secret_of_an_upstream() -> None:
    scene = Scene(engine())
    found = scene.cache.resource(Key(ENGINE, NAMESPACE, "kws"))
    assert found
    assert asked_of(found) is None


def test_its_variants_say_so_too_and_until_it_is_there() -> None:
    scene = Scene(upstream(upstream=KEYED), variant(on="elsewhere"))
    key = Key(ENGINE, NAMESPACE, "elsewhere")

    def engine_says(answer: Answer) -> set[Key]:
        found = scene.cache.resource(key)
        assert found
        trouble = refuse_credential(Ask(AskedKind.SECRET, "hosted"), answer)
        status = engine_status(found, Usage(), scene.cache.fleet, now=NOW, credential=trouble)
        touched = scene.cache.upsert(ENGINE, sent({**upstream(upstream=KEYED), "status": status}))
        return touched.now

    mine = Key(VARIANT, NAMESPACE, "kws-en")
    assert mine in engine_says(Answer(found=False))
    status = scene.settle("kws-en")
    assert conditions(status)["Ready"] == ("False", "EngineNotAccepted")
    assert "SecretNotFound: spec.upstream.apiKeySecretRef: Secret 'hosted'" in message(
        status, "EngineSelected"
    )
    assert mine not in engine_says(Answer(found=False)), "nothing new"
    assert mine in engine_says(Answer(True, {"roundhouse.dev/credential": "upstream"}))
    assert "SecretNotFound" not in message(scene.settle("kws-en"), "EngineSelected")
