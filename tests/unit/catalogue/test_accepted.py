"""The operator takes every model as it stands, and says of music alone what it does not honour yet."""

from __future__ import annotations

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import ENGINE, Key
from roundhouse_operator.core.status.engine import Usage, engine_status
from tests.charts.helm import render
from tests.unit.catalogue.shown import ALL, rows
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, conditions, node

AHEAD = {row.id for row in rows("S3-2")}
"""Their stage and their limits: the gateway has no route for music yet."""


def sent(values: Manifest) -> list[Manifest]:
    found = [each for each in render(values) if each["kind"] in ("Engine", "ModelVariant")]
    metadata = ({**each["metadata"], "namespace": NAMESPACE} for each in found)
    return [{**each, "metadata": own} for each, own in zip(found, metadata, strict=True)]


@pytest.mark.parametrize("images", [True, False], ids=["with GPU images", "without"])
def test_the_operator_accepts_the_catalogue(images: bool) -> None:
    manifests = sent({"catalogue": {**ALL["catalogue"], "gpuImages": images}})
    scene = Scene(node("n1"), *manifests)
    for each in manifests:
        name = each["metadata"]["name"]
        if each["kind"] == "Engine":
            engine = scene.cache.resource(Key(ENGINE, NAMESPACE, name))
            assert engine
            status = engine_status(engine, Usage(), scene.cache.fleet, now=NOW)
            ahead = each["spec"]["stage"] == "Music"
        else:
            status = scene.settle(name)
            ahead = each["spec"]["servedName"] in AHEAD
            assert conditions(status)["Ready"] == ("False", "Suspended"), name
            assert set(status["publishedNames"]) >= {each["spec"]["servedName"]}
        told = conditions(status)
        assert told["Accepted"] == ("True", "Valid"), (name, status)
        assert told.get("Degraded", ("False", ""))[1] == ("NotYetSupported" if ahead else ""), (name, status)


def test_no_pod_and_no_weights_are_wanted_for_what_is_only_shown() -> None:
    manifests = sent(ALL)
    scene = Scene(node("n1", gpus=8), *manifests)
    for each in manifests:
        if each["kind"] == "ModelVariant":
            applies = scene.decide(each["metadata"]["name"]).plan.applies
            deployments = [one.manifest for one in applies if one.kind.name == "Deployment"]
            assert [one["spec"]["replicas"] for one in deployments] in ([], [0])
            assert not {one.kind.name for one in applies} & {"Job", "PersistentVolumeClaim"}
