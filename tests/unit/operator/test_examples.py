"""Each example is accepted as it stands: nothing in it is refused, and nothing is not honoured yet."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from roundhouse_operator.core.kinds import ENGINE, Key
from roundhouse_operator.core.status.engine import Usage, engine_status
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, conditions, node

EXAMPLES = Path(__file__).parents[3] / "examples"
OURS = ("Engine", "ModelVariant")


AHEAD = frozenset({"musicgen"})
"""Their status says what of them is not honoured yet: the gateway has no route for music."""


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_is_accepted(example: Path) -> None:
    found = [each for each in yaml.safe_load_all(example.read_text()) if each["kind"] in OURS]
    for each in found:
        each["metadata"]["namespace"] = NAMESPACE
    scene = Scene(node("n1"), *found)
    for each in found:
        name = each["metadata"]["name"]
        engine = scene.cache.resource(Key(ENGINE, NAMESPACE, name)) if each["kind"] == "Engine" else None
        status = engine_status(engine, Usage(), scene.cache.fleet, now=NOW) if engine else scene.settle(name)
        told = conditions(status)
        assert told["Accepted"] == ("True", "Valid"), name
        not_yet = told.get("Degraded", ("False", ""))[1] == "NotYetSupported"
        assert not_yet == (example.stem in AHEAD), status


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("vllm*.yaml")), ids=lambda path: path.stem)
def test_vllm_is_called_as_its_server_asks(example: Path) -> None:
    """Its model comes first and without a flag; the published image cannot read audio."""
    found = [each["spec"] for each in yaml.safe_load_all(example.read_text()) if each["kind"] == "Engine"]
    for each in found:
        assert each["workload"]["args"][0] == "/weights"
        published = each["workload"]["image"].startswith("vllm/vllm-openai:")
        assert published == (each["stage"] == "Chat")
