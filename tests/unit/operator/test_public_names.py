"""Names over all kinds, and fallbacks that lead nowhere: who is told, and who is looked at again."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import ADAPTER, POLICY, VARIANT, Key, Kind
from roundhouse_operator.core.observed import Claim, Invalid
from roundhouse_operator.core.status.unserved import unserved_status
from roundhouse_operator.public_names import PublicNames
from tests.unit.operator.samples import adapter, engine, policy, variant
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, conditions, message, node, sent


def falling(name: str, *models: str, **spec: Any) -> Manifest:
    return variant(name, fallbacks=[{"model": model} for model in models], **spec)


def told(scene: Scene, kind: Kind, name: str) -> Manifest:
    """The status of an adapter or a policy, written where the next pass finds it."""
    key = Key(kind, NAMESPACE, name)
    resource = scene.cache.resource(key)
    assert resource
    status = unserved_status(resource, scene.cache.award(key), now=NOW)
    assert not isinstance(resource.spec, Invalid)
    spec = resource.spec.model_dump(by_alias=True, exclude_none=True, mode="json")
    scene.put({"kind": kind.name, "metadata": {"name": name}, "spec": spec, "status": status})
    return status


def test_adapters_and_policies_hold_names_of_the_same_space() -> None:
    scene = Scene(node("n1"), engine(), variant(servedName="fast"))
    assert scene.settle("kws-en")["publishedNames"] == ["fast"]
    scene.put(adapter(servedName="fast"), policy(servedNames=["auto", "fast"]), policy("other"))
    status = told(scene, ADAPTER, "lora")
    assert conditions(status)["Accepted"] == ("False", "NameConflict")
    assert "'fast' belongs to ModelVariant speech/kws-en" in message(status, "Ready")
    assert "publishedNames" not in status
    cheap = told(scene, POLICY, "cheap")
    assert cheap["publishedNames"] == ["auto"]
    assert "'fast' belongs to ModelVariant" in message(cheap, "Degraded")
    assert conditions(told(scene, POLICY, "other"))["Accepted"] == ("False", "NameConflict")


def test_a_variant_gets_no_name_of_an_adapter_that_was_first() -> None:
    scene = Scene(node("n1"), engine(), adapter(servedName="fast"))
    assert told(scene, ADAPTER, "lora")["publishedNames"] == ["fast"]
    scene.put(variant(servedName="fast"))
    assert "belongs to Adapter speech/lora" in message(scene.settle("kws-en"), "Accepted")


def test_an_alias_of_a_refused_variant_is_free_for_a_younger_one() -> None:
    old = variant("old", aliases=["quick"], env=[{"name": "ROUNDHOUSE_PORT", "value": "1"}])
    old["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    scene = Scene(node("n1"), engine(), old, variant("young", aliases=["quick"]))
    status = scene.status("old")
    assert conditions(status)["Accepted"] == ("False", "InvalidSpec")
    assert status["publishedNames"] == ["old"]
    write(scene, old, status)
    assert scene.settle("young")["publishedNames"] == ["young", "quick"]


def test_the_id_of_a_refused_variant_passes_to_one_that_can_be_served() -> None:
    old = variant("old", servedName="x", env=[{"name": "ROUNDHOUSE_PORT", "value": "1"}])
    old["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    scene = Scene(node("n1"), engine(), old, variant("young", servedName="x"))
    write(scene, old, scene.status("old"))
    young = scene.settle("young")
    assert young["publishedNames"] == ["x"]
    # And it stays there, whatever is said of the old one afterwards.
    write(scene, old, scene.status("old"))
    assert conditions(scene.status("old"))["Accepted"] == ("False", "NameConflict")
    mended = variant("old", servedName="x")
    mended["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    write(scene, mended, scene.status("old"))
    assert scene.settle("young")["publishedNames"] == ["x"]


def write(scene: Scene, manifest: Manifest, status: Manifest) -> None:
    scene.put({**manifest, "status": status})


def test_fallbacks_in_a_circle_are_told_to_each_of_its_members() -> None:
    scene = Scene(
        node("n1"),
        engine(),
        falling("a", "bee"),
        falling("b", "x", "c", servedName="bee"),
        falling("c", "a"),
        falling("d", "a"),
        variant("x"),
    )
    for name, circle in (("a", "a → bee → c → a"), ("b", "bee → c → a → bee"), ("c", "c → a → bee → c")):
        status = scene.settle(name)
        assert conditions(status)["Degraded"] == ("True", "FallbackCycle")
        assert message(status, "Degraded") == f"Fallbacks lead in a circle: {circle}"
    assert "Degraded" not in conditions(scene.settle("d"))


def test_a_variant_that_falls_back_to_its_own_alias_goes_in_a_circle() -> None:
    scene = Scene(node("n1"), engine(), falling("a", "mine", aliases=["mine"]))
    assert "a → a" in message(scene.settle("a"), "Degraded")


def test_a_fallback_to_nobody_is_named_until_somebody_has_the_name() -> None:
    scene = Scene(node("n1"), engine(), falling("a", "b", "nobody"))
    assert "nothing answers to: 'b', 'nobody'" in message(scene.settle("a"), "Degraded")
    touched = scene.cache.upsert(VARIANT, sent(variant("b")))
    assert Key(VARIANT, NAMESPACE, "a") in touched.now
    assert "nothing answers to: 'nobody'" in message(scene.settle("a"), "Degraded")


def test_who_closes_a_circle_and_who_opens_it_has_all_members_looked_at() -> None:
    scene = Scene(node("n1"), engine(), falling("a", "b"), falling("b", "c"), variant("c"), variant("far"))
    closed = scene.cache.upsert(VARIANT, sent(falling("c", "a")))
    assert {key.name for key in closed.now} == {"a", "b", "c"}
    opened = scene.cache.upsert(VARIANT, sent(falling("b", "far")))
    assert {key.name for key in opened.now} == {"a", "b", "c"}


names = st.sampled_from("uvwxyz")
changes = st.lists(
    st.tuples(
        st.sampled_from("abcdefg"),
        st.one_of(
            st.none(), st.tuples(st.lists(names, min_size=1, unique=True), st.lists(names, max_size=3))
        ),
    ),
    max_size=30,
)


@given(changes)
def test_whoever_is_not_looked_at_again_has_no_reason_to(
    done: list[tuple[str, tuple[list[str], list[str]] | None]],
) -> None:
    """After each change the others' rivals and detours are as before, or they are named."""
    index = PublicNames()
    there: set[Key] = set()
    for name, what in done:
        key = Key(VARIANT, NAMESPACE, name)
        before = {one: (index.rivals(one), index.detours(one)) for one in there}
        wanted, led = what or ([], [])
        claim = Claim(key, NOW, tuple(wanted)) if what else None
        touched = index.put(key, claim, tuple(led))
        there = (there | {key}) if what else (there - {key})
        for one in there - {key} - touched:
            assert before[one] == (index.rivals(one), index.detours(one))
    for key in there:
        index.put(key, None)
    assert not any((index._claims, index._fallbacks, index._claimants, index._followers))
