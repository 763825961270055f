"""An operator upgrade restarts no model: each release's pod templates come out of today's code unchanged.

`releases/<release>/<case>.yaml` holds resources and the children that the operator of that release made of
them, `releases/revisions-<release>.json` the revision by which its statuses know what placement was decided.
Unlike golden files they are never written anew: a template that changes restarts every pod in the field. A
release adds a folder, made from the code of that release, when templates got new members.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Hardware
from roundhouse_operator.core.placement.need import state
from tests.unit.operator.test_desired import INPUTS, children

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


def test_a_field_that_nobody_sets_changes_no_revision() -> None:
    short = {"gpu": {"mode": "Required", "minMemory": "24Gi"}}
    long = {"gpu": {**short["gpu"], "count": 1, "products": []}, "tolerations": [], "nodeSelector": {}}
    both = [state(Hardware.model_validate(one)).revision for one in (short, long)]
    assert both[0] == both[1]
