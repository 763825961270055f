"""What the guide shows is what the chart takes, as it is printed."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest
import yaml

from tests.charts.helm import CHART
from tests.unit.catalogue.shown import resources

GUIDE = (CHART.parents[1] / "docs" / "guides" / "catalogue.md").read_text()
BLOCKS = [dedent(found) for found in re.findall(r"^ *```yaml\n(.*?)^ *```", GUIDE, re.DOTALL | re.MULTILINE)]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: " ".join(block.split())[:40])
@pytest.mark.req("S2-16")
def test_values_of_the_guide_are_taken(block: str) -> None:
    values = yaml.safe_load(block)
    assert set(values) <= {"catalogue", "engines", "models", "modelsLocal"}
    wanted = values.get("catalogue", {}).get("run", [])
    _, variants = resources(values)
    assert set(variants) == set(wanted)


def test_the_guide_shows_all_that_can_be_laid_over() -> None:
    shown = {key for block in BLOCKS for key in yaml.safe_load(block)}
    assert shown == {"catalogue", "engines", "models"}
    assert "modelsLocal" in GUIDE
