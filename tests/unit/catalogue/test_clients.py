"""What clients are shown of the catalogue, from the chart by the operator's core to the gateway's views."""

from __future__ import annotations

from functools import cache

import pytest

from roundhouse_api.model import Manifest
from roundhouse_gateway.records import read_engine, read_variant
from roundhouse_gateway.snapshot import Snapshot
from roundhouse_gateway.views import engine_item, model_detail
from tests.charts.helm import render
from tests.unit.catalogue.shown import ALL, Row, rows
from tests.unit.gateway.resources import joined
from tests.unit.operator.worlds import NAMESPACE, Scene, node, sent


@cache
def snapshot() -> Snapshot:
    """Of a gateway, where the whole catalogue is shown and none of it runs."""
    found = [each for each in render(ALL) if each["kind"] in ("Engine", "ModelVariant")]
    manifests = [sent({**each, "metadata": {**each["metadata"], "namespace": NAMESPACE}}) for each in found]
    scene = Scene(node("n1"), *manifests)
    variants = [
        read_variant({**each, "status": scene.settle(each["metadata"]["name"])})
        for each in manifests
        if each["kind"] == "ModelVariant"
    ]
    engines = [read_engine(each) for each in manifests if each["kind"] == "Engine"]
    return joined(variants, engines=engines, namespaces=(NAMESPACE,))


def item(name: str) -> Manifest:
    return engine_item(snapshot().resolve(name))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
@pytest.mark.req("S1-12", "S1-14")
def test_each_model_is_listed_as_available_with_its_figures(row: Row) -> None:
    shown = item(row.id)
    assert (shown["id"], shown["status"], shown["stage"]) == (row.id, "available", row.stage.lower())
    assert shown["hardware"]["vram_gb"] == (float(row.shown_gb) if row.shown_gb else None)
    assert shown["hardware"]["gpu"] == row.gpu.lower()
    figures = shown["performance"]
    wanted = {"rtf_gpu": row.rtf_gpu, "rtf_cpu": row.rtf_cpu, "speed_factor": row.speed}
    assert {name: figures[name] for name in wanted} == {
        name: float(text) if text else None for name, text in wanted.items()
    }
    counted = row.languages.isdigit()
    count = int(row.languages) if counted else len(row.languages.split()) or None
    assert shown["capabilities"]["language_count"] == count
    assert len(shown["capabilities"]["languages"] or ()) == (count or 0)


@pytest.mark.req("S1-11")
def test_the_published_examples() -> None:
    whisper, parakeet = (item(name)["capabilities"] for name in ("faster-whisper-base", "parakeet-0.6b"))
    assert {"en", "es", "fr"} <= set(whisper["languages"])
    assert (whisper["streaming"], whisper["word_timestamps"]) == (False, False)
    assert (parakeet["languages"], parakeet["streaming"], parakeet["word_timestamps"]) == (
        ["en"],
        False,
        True,
    )


@pytest.mark.req("S0-5", "S0-13")
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("fast", "distil-whisper"),
        ("accurate", "whisper-large-v3"),
        ("large", "whisper-large-v3"),
        ("medium", "whisper-medium"),
        ("small", "whisper-small"),
        ("base", "whisper-base"),
        ("tiny", "whisper-tiny"),
        ("Systran/faster-whisper-tiny", "whisper-tiny"),
        ("facebook/musicgen-small", "musicgen-small"),
    ],
)
def test_an_alias_or_a_repository_leads_to_its_model(name: str, model: str) -> None:
    shown = model_detail(snapshot().resolve(name))
    assert (shown["id"], shown["status"]) == (model, "available")
    assert shown["license"]
    assert shown["description"]
