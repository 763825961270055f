"""Who wrote `replicas`, and when that is a conflict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.replicas import NOBODY, Writer, read_writer, scaler_of
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.test_status import SERVING
from tests.unit.operator.worlds import MANAGER, NAMESPACE, Scene, conditions, message, node, sent

OURS = scaler_of(MANAGER)
OTHER = "roundhouse/other/one/scaler"
HPA = "kube-controller-manager"
REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}}}


def entry(manager: str, time: str = "2026-01-01T00:00:00Z", fields: Manifest = REPLICAS) -> Manifest:
    return {
        "manager": manager,
        "operation": "Update",
        "subresource": "scale",
        "fieldsV1": fields,
        "time": time,
    }


def written(*managers: str, generation: int = 1, **status: Any) -> Manifest:
    entries = [
        entry("kubectl", fields={"f:spec": {"f:source": {}}}),
        *(entry(manager, f"2026-01-0{number}T00:00:00Z") for number, manager in enumerate(managers, 1)),
    ]
    return sent(
        {
            **variant(scaling={"mode": "Demand"}),
            "metadata": {"name": "kws-en", "generation": generation, "managedFields": entries},
            "status": status,
        }
    )


def test_nobody_wrote_a_default() -> None:
    assert read_writer(written(), None, OURS) == NOBODY


@pytest.mark.parametrize(
    ("before", "managers", "rival"),
    [
        pytest.param(None, (OURS,), "", id="ours"),
        pytest.param(None, (HPA,), "", id="somebody was first"),
        pytest.param(Writer(HPA), (HPA,), "", id="and is still"),
        pytest.param(NOBODY, (HPA,), HPA, id="somebody after ours, which left no trace"),
        pytest.param(Writer(OURS), (HPA,), HPA, id="somebody after ours"),
        pytest.param(Writer(OURS), ("argocd-controller",), "argocd-controller", id="git after ours"),
        pytest.param(Writer(OURS), ("kubectl",), "", id="a person after ours"),
        pytest.param(Writer(OURS), ("kubectl-client-side-apply",), "", id="a person applies"),
        pytest.param(Writer(OURS), (HPA, OURS), "", id="both want the same"),
        pytest.param(Writer(HPA, HPA), (HPA,), HPA, id="it goes on before a status could tell"),
        pytest.param(Writer(HPA, HPA), ("kubectl",), "", id="handed back"),
        pytest.param(Writer(OURS), (OTHER,), OTHER, id="another installation after ours"),
    ],
)
def test_whose_write_is_a_conflict(before: Writer | None, managers: tuple[str, ...], rival: str) -> None:
    assert read_writer(written(*managers, generation=2), before, OURS).rival == rival


def test_of_several_the_last_one_wrote() -> None:
    assert read_writer(written("first", "second"), None, OURS).manager == "second"


def test_a_conflict_is_told_first_survives_a_restart_and_ends_with_a_person_s_word() -> None:
    scene = Scene(node("n1"), engine(), written(OURS))
    before = scene.settle("kws-en", **SERVING)
    scene.put(written(OURS, **before), written(HPA, generation=2, **before))
    status = scene.settle("kws-en", **SERVING)
    assert conditions(status)["Degraded"] == ("True", "ScalerConflict")
    assert repr(HPA) in message(status, "Degraded")
    assert conditions(status)["Ready"] == ("True", "Serving"), "it serves all the same"
    scene.put(written(HPA, generation=2, **status))
    assert scene.decide("kws-en").scaling is None

    successor = Scene(node("n1"), engine(), written(HPA, generation=2, **status))
    assert successor.decide("kws-en").rival is not None
    successor.put(written("kubectl", generation=3, **status))
    assert successor.decide("kws-en").rival is None
    assert successor.decide("kws-en").scaling is not None


def test_a_conflict_is_forgotten_with_the_mode() -> None:
    scene = Scene(node("n1"), engine(), written(OURS))
    scene.put(written(HPA, generation=2))
    manual = written(HPA, generation=3)
    scene.put({**manual, "spec": variant()["spec"]})
    status = scene.settle("kws-en", **SERVING)
    assert "Degraded" not in conditions(status)
    scene.put({**written(HPA, generation=3, **status), "spec": variant()["spec"]})
    scene.put(written(HPA, generation=3, **status))
    assert scene.decide("kws-en").rival is None, f"{NAMESPACE}: the status has taken it back"


def test_the_name_of_our_scaler_is_its_own_however_long_that_of_the_installation_is() -> None:
    assert scaler_of("roundhouse/speech/one") == "roundhouse/speech/one/scaler"
    longest = [f"roundhouse/{'n' * 63}/{'r' * 52}{end}" for end in "ab"]
    names = {scaler_of(one) for one in longest}
    assert len(names) == 2
    assert {len(one) for one in names} == {128}, "the API server takes no longer one"
    assert all(one.endswith("/scaler") for one in names)


def fought_over() -> Iterator[Manifest]:
    scene = Scene(node("n1"), engine(), written(OURS))
    before = scene.settle("kws-en", **SERVING)
    scene.put(
        written(OURS, **before),
        written(HPA, generation=2, **before),
    )
    yield scene.settle("kws-en", **SERVING)
