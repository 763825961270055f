"""An operator upgrade restarts no model: each release's pod templates come out of today's code unchanged.

`releases/<release>/<case>.yaml` holds resources and the children that the operator of that release made of
them, `releases/revisions-<release>.json` the revision by which its statuses know what placement was decided,
and `releases/statuses-<release>.json` what it said of each, whose pods take more than was stated.
Unlike golden files they are never written anew: a template that changes restarts every pod in the field. A
release adds a folder, made from the code of that release, when templates got new members.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Hardware
from roundhouse_operator.core.placement import keep
from roundhouse_operator.core.placement.need import state
from roundhouse_operator.core.placing import need_anew, replaces_pods
from tests.unit.operator.test_desired import INPUTS, children
from tests.unit.operator.worlds import Scene, applied, pod

RUNNING: dict[str, Any] = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}
RELEASED = sorted((Path(__file__).parent / "releases").glob("*/*.yaml"))


def read(path: Path) -> tuple[list[Manifest], list[Manifest]]:
    """Resources, and what that release made of them."""
    manifests = list(yaml.safe_load_all(path.read_text()))
    inputs = [one for one in manifests if one["kind"] in INPUTS]
    return inputs, [one for one in manifests if one["kind"] not in INPUTS]


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_template_of_a_release_is_still_the_same(path: Path) -> None:
    inputs, released = read(path)
    today = {one["kind"]: one for one in children(*inputs)}
    before = next(one for one in released if one["kind"] == "Deployment")
    after = today["Deployment"]
    assert after["spec"]["template"] == before["spec"]["template"]
    assert after["spec"]["selector"] == before["spec"]["selector"], "it cannot be changed"
    assert after["metadata"]["name"] == before["metadata"]["name"]


REVISIONS = [
    pytest.param(one["hardware"], one["revision"], id=f"{path.stem}-{one['case']}")
    for path in sorted((Path(__file__).parent / "releases").glob("revisions-*.json"))
    for one in json.loads(path.read_text())
]


@pytest.mark.parametrize(("hardware", "revision"), REVISIONS)
def test_a_placement_that_a_release_decided_is_known_again(hardware: Manifest, revision: str) -> None:
    """Else it would be decided anew, by the nodes and the measurements of the day, and pods replaced."""
    assert state(Hardware.model_validate(hardware)).revision == revision


def released_status(path: Path) -> Manifest:
    """What that release said of the case's variant while its pods ran."""
    statuses = json.loads((path.parents[1] / f"statuses-{path.parent.name}.json").read_text())
    status: Manifest = statuses[path.stem]
    return status


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_pods_of_a_release_stay_where_its_status_says(path: Path) -> None:
    """Also those that were seen to take more than was stated: that counts when they are replaced anyhow."""
    inputs, released = read(path)
    name = next(one["metadata"]["name"] for one in inputs if one["kind"] == "ModelVariant")
    scene, status = Scene(*inputs), released_status(path)
    for child in released:
        scene.put(applied(child, rollout=RUNNING if child["kind"] == "Deployment" else None))
    scene.put(pod(f"{name}-1", name))
    scene.write(name, status)
    world, decision = scene.world(name), scene.decide(name)
    intent, chosen = decision.intent, decision.choice and decision.choice.engine
    assert intent
    assert chosen
    assert not replaces_pods(decision.plan, world.children)
    assert intent.need == keep(intent.need.stated, status["placement"])
    if status["placement"]["device"] == "GPU":
        assert intent.need != need_anew(world, intent.merged, chosen), "it is the status that keeps them"


def test_a_field_that_nobody_sets_changes_no_revision() -> None:
    short = {"gpu": {"mode": "Required", "minMemory": "24Gi"}}
    long = {"gpu": {**short["gpu"], "count": 1, "products": []}, "tolerations": [], "nodeSelector": {}}
    both = [state(Hardware.model_validate(one)).revision for one in (short, long)]
    assert both[0] == both[1]
