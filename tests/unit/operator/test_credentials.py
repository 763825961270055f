"""The Secret and the ConfigMap of an upstream: looked at by their metadata, missed where they are not."""

from __future__ import annotations

from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.credentials import asked_of, refuse_credentials
from roundhouse_operator.core.kinds import ENGINE, VARIANT, Key, Kind
from roundhouse_operator.core.status.engine import Usage, engine_status
from roundhouse_operator.core.weights.asked import Answer, Ask, AskedKind
from roundhouse_operator.errors import RefusedError
from roundhouse_operator.lookups import Lookups
from tests.unit.operator.samples import engine, upstream, variant
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, conditions, message, sent

KEYED: Manifest = {
    "baseURL": "https://api.example.org/v1",
    "apiKeySecretRef": {"name": "hosted", "key": "token"},
}
GOOD = Answer(True, {"roundhouse.dev/credential": "upstream"})


def status_with(*answers: Answer, **spec: Any) -> Manifest:
    """The answers are those about the Secret, and about the ConfigMap if the upstream names one."""
    scene = Scene(upstream(upstream={**KEYED, **spec}))
    found = scene.cache.resource(Key(ENGINE, NAMESPACE, "elsewhere"))
    assert found
    asks = asked_of(found)
    trouble = refuse_credentials(dict(zip(asks, answers, strict=True)), asks)
    return engine_status(found, Usage(), scene.cache.fleet, now=NOW, credential=trouble)


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (Answer(found=False), "SecretNotFound", "Secret 'hosted' does not exist in this namespace"),
        (Answer(found=True, refused="secrets is forbidden"), "SecretUnreadable", "at: secrets is forbidden"),
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
    assert conditions(status_with(GOOD))["Accepted"] == ("True", "Valid")


@pytest.mark.parametrize(
    ("there", "accepted"), [(True, ("True", "Valid")), (False, ("False", "ConfigMapNotFound"))]
)
def test_certificates_are_looked_for_too(there: bool, accepted: tuple[str, str]) -> None:
    ca = {"name": "own-ca", "key": "ca.crt"}
    status = status_with(GOOD, Answer(there), caConfigMapRef=ca)
    assert conditions(status)["Accepted"] == accepted
    if not there:
        assert "ConfigMap 'own-ca' does not exist in this namespace" in message(status, "Accepted")


def test_an_address_that_nobody_may_call_comes_first() -> None:
    status = status_with(Answer(found=False), baseURL="http://127.0.0.1/v1")
    assert conditions(status)["Accepted"] == ("False", "ForbiddenAddress")


def test_an_engine_of_pods_names_no_secret_of_an_upstream() -> None:
    scene = Scene(engine())
    found = scene.cache.resource(Key(ENGINE, NAMESPACE, "kws"))
    assert found
    assert asked_of(found) == ()


def test_its_variants_say_so_too_and_until_it_is_there() -> None:
    scene = Scene(upstream(upstream=KEYED), variant(on="elsewhere"))
    key = Key(ENGINE, NAMESPACE, "elsewhere")

    def engine_says(answer: Answer) -> set[Key]:
        found = scene.cache.resource(key)
        assert found
        ask = Ask(AskedKind.SECRET, "hosted")
        trouble = refuse_credentials({ask: answer}, [ask])
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
    assert mine in engine_says(Answer(found=True, refused="no"))
    assert mine in engine_says(Answer(found=False))
    assert mine in engine_says(GOOD)
    assert conditions(scene.settle("kws-en"))["EngineSelected"][0] == "True"


class Forbidding:
    """Stands in for an API server that lets nobody look."""

    async def get_metadata(self, _kind: Kind, _namespace: str, name: str) -> Manifest:
        raise RefusedError(403, "Forbidden", f'secrets "{name}" is forbidden')


async def test_what_may_not_be_looked_at_is_an_answer_too() -> None:
    cluster: Any = Forbidding()
    ask = Ask(AskedKind.SECRET, "hosted")
    answers = await Lookups(cluster).answers(NAMESPACE, [ask])
    trouble = refuse_credentials(answers, [ask])
    assert trouble
    assert trouble.reason == "SecretUnreadable"
    assert 'secrets "hosted" is forbidden' in trouble.message
