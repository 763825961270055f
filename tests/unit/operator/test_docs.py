"""The reference names every setting and every metric."""

from __future__ import annotations

import re
from pathlib import Path

from roundhouse_operator.cache import Cache
from roundhouse_operator.loads import Loads
from roundhouse_operator.metrics import Metrics, Present
from roundhouse_operator.queue import WorkQueue
from roundhouse_operator.settings import Settings
from roundhouse_operator.tally import Tally

DOCS = Path(__file__).parents[3] / "docs"


def test_every_setting_is_described() -> None:
    page = (DOCS / "concepts/operator.md").read_text()
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in page] == []


def test_every_metric_is_described_and_no_other_is() -> None:
    metrics, tally = Metrics(), Tally()
    metrics.show(Present(WorkQueue(), Cache("manager", tally), tally, (), lambda: True, lambda: 0))
    metrics.tell_gateways(Loads(lambda _key: None), lambda: 0.0)
    there = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in metrics.registry.collect()
        if family.name.startswith("roundhouse_")
    }
    page = (DOCS / "reference/metrics.md").read_text()
    described = re.findall(r"^\| `(roundhouse_operator_\w+)", page, re.MULTILINE)
    assert sorted(described) == sorted(there)
