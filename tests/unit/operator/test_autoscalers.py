"""Which variants have a HorizontalPodAutoscaler set upon them, and what their status says of it."""

from __future__ import annotations

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.autoscalers import Autoscalers
from roundhouse_operator.core.kinds import VARIANT, Key
from tests.unit.operator.samples import engine, upstream, variant
from tests.unit.operator.sharing import SharedScene, gpu_node, shared_engine
from tests.unit.operator.test_status import SERVING
from tests.unit.operator.worlds import NAMESPACE, Scene, conditions, message, node

KWS = Key(VARIANT, NAMESPACE, "kws-en")
OTHER = Key(VARIANT, NAMESPACE, "other")


def autoscaler(
    name: str = "cpu",
    on: str = "kws-en",
    *,
    kind: str = "ModelVariant",
    version: str = "roundhouse.dev/v1alpha1",
) -> Manifest:
    reference = {"apiVersion": version, "kind": kind, "name": on}
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"scaleTargetRef": reference}}


def test_what_comes_moves_and_goes_concerns_its_variants_and_no_others() -> None:
    known = Autoscalers()
    assert known.take(autoscaler()) == {KWS}
    assert known.take(autoscaler()) == set(), "its status changes all the time"
    assert known.of(KWS) == "cpu"
    assert known.take(autoscaler(on="other")) == {KWS, OTHER}
    assert (known.of(KWS), known.of(OTHER)) == ("", "cpu")
    assert known.drop((NAMESPACE, "cpu")) == {OTHER}
    assert known.drop((NAMESPACE, "cpu")) == set()


@pytest.mark.parametrize(
    "manifest",
    [
        autoscaler(kind="Deployment", version="apps/v1"),
        autoscaler(version="elsewhere.dev/v1"),
        autoscaler(version=""),
    ],
)
def test_what_scales_something_else(manifest: Manifest) -> None:
    known = Autoscalers()
    assert known.take(manifest) == set()
    assert known.of(KWS) == ""


def test_a_listing_tells_of_deletions() -> None:
    known = Autoscalers()
    known.take(autoscaler())
    known.take(autoscaler("b"))
    assert known.keep("elsewhere", set()) == set()
    assert known.keep(NAMESPACE, {(NAMESPACE, "b")}) == {KWS}
    assert known.of(KWS) == "b"
    assert known.keep(None, set()) == {KWS}


@pytest.mark.parametrize("mode", ["Demand", "Manual"])
def test_two_scalers_are_told_under_demand_alone_and_as_long_as_there_are_two(mode: str) -> None:
    scene = Scene(node("n1"), engine(), variant(scaling={"mode": mode}))
    scene.cache.autoscalers.take(autoscaler())
    status = scene.settle("kws-en", **SERVING)
    assert scene.decide("kws-en").scaling is None
    if mode == "Manual":
        assert "Degraded" not in conditions(status)
        return
    assert conditions(status)["Degraded"] == ("True", "ScalerConflict")
    assert "HorizontalPodAutoscaler 'cpu'" in message(status, "Degraded")
    scene.cache.autoscalers.drop((NAMESPACE, "cpu"))
    assert scene.decide("kws-en").scaling is not None
    assert "Degraded" not in conditions(scene.settle("kws-en", **SERVING))


@pytest.mark.parametrize(("mode", "reason"), [("Demand", "ScalerConflict"), ("Manual", "NotAutoscalable")])
def test_an_autoscaler_of_a_variant_that_shares_pods_is_told_to_be_in_vain(mode: str, reason: str) -> None:
    scene = SharedScene(shared_engine(), gpu_node(), variant(scaling={"mode": mode}))
    scene.cache.autoscalers.take(autoscaler())
    scene.come_to_rest()
    status = scene.tell("kws-en")
    said = message(status, "Degraded")
    assert "HorizontalPodAutoscaler 'cpu' cannot scale it" in said
    assert "those of Engine 'kws'" in said
    assert conditions(status)["Degraded"] == ("True", reason)
    assert conditions(status)["Available"] == ("True", "Serving")
    scene.cache.autoscalers.drop((NAMESPACE, "cpu"))
    assert "Degraded" not in conditions(scene.tell("kws-en"))


def test_an_autoscaler_of_an_upstreams_variant_is_in_vain_too() -> None:
    scene = Scene(upstream(), variant(on="elsewhere"))
    scene.cache.autoscalers.take(autoscaler())
    assert conditions(scene.settle("kws-en"))["Degraded"] == ("True", "NotAutoscalable")
