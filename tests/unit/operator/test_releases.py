"""An operator upgrade restarts no model: each release's pod templates come out of today's code unchanged.

`releases/<release>/<case>.yaml` holds resources and the children that the operator of that release made of
them. Unlike golden files they are never written anew: a template that changes restarts every pod in the
field. A release adds a folder, made from the code of that release, when templates got new members.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from roundhouse_api.model import Manifest
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
