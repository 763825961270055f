"""Variants that share an engine's pods read weights that were fetched for them from one claim."""

from __future__ import annotations

import pytest

from tests.cluster.operator.harness import Kubectl, Operator
from tests.cluster.weights.conftest import REPO, Volumes
from tests.cluster.weights.hearing import heard
from tests.cluster.weights.test_fetching import SOURCE, own_claim, sphinx
from tests.support.hub import Hub
from tests.support.recordings import GO_FORWARD_WORDS
from tests.unit.operator.samples import variant

PODS = "roundhouse.dev/engine=sphinx,roundhouse.dev/managed=true"


@pytest.mark.req("S2-14")
def test_variants_of_a_shared_engine_are_fetched_once_and_heard_in_one_pod(
    operator: Operator, kubectl: Kubectl, hub: Hub, volumes: Volumes, model: dict[str, bytes]
) -> None:
    volumes.make()
    cache = {"type": "PVC", "pvc": {"claimName": "models"}}
    kubectl.apply(
        own_claim(volumes),
        sphinx(cache=cache, serving={"type": "Shared"}),
        variant("one", on="sphinx", source=SOURCE),
        variant("two", on="sphinx", source=SOURCE, engineModelName="second"),
    )
    for name in ("one", "two"):
        kubectl.wait("mv", name, "Ready", "True", "Serving", seconds=240)
    assert heard(kubectl, PODS) == heard(kubectl, PODS, "second") == GO_FORWARD_WORDS
    assert hub.downloaded_bytes < 1.1 * sum(map(len, model.values()))
    weights = [kubectl.get("mv", name)["status"]["weights"] for name in ("one", "two")]
    assert weights[0] == weights[1]
    assert REPO in str(kubectl.get("cm", "sphinx-0")["data"])


def test_without_a_claim_for_all_of_them_a_variant_is_refused(
    operator: Operator, kubectl: Kubectl, hub: Hub
) -> None:
    kubectl.apply(sphinx(serving={"type": "Shared"}), variant("one", on="sphinx", source=SOURCE))
    told = kubectl.wait("mv", "one", "Accepted", "False", "NotShareable")
    assert "without a claim for all variants, spec.cache.pvc.claimName of the engine" in told["message"]
    assert hub.downloaded_bytes == 0
