"""The operator's page names every setting and every metric."""

from __future__ import annotations

from pathlib import Path

from roundhouse_operator.metrics import Metrics
from roundhouse_operator.settings import Settings
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import Scene

PAGE = (Path(__file__).parents[3] / "docs/concepts/operator.md").read_text()


def test_every_setting_is_described() -> None:
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in PAGE] == []


def test_every_metric_is_described() -> None:
    metrics = Metrics()
    metrics.tell_variants(Scene(engine(), variant()).cache.resources)
    named = [
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in metrics.registry.collect()
    ]
    assert [name for name in named if f"`{name}" not in PAGE] == []
