"""The catalogue as Helm renders it, and the table that it is held against.

The table (tests/data/catalogue/models.csv) is written from the lists that the catalogue replaces and from the
models' cards; nothing in it is made from the chart.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Engine, ModelVariant
from roundhouse_operator.core import effective
from roundhouse_operator.core.effective import Merged
from tests.charts.helm import CHART, render

DATA = Path(__file__).parents[2] / "data" / "catalogue"
FILES = CHART / "files" / "catalogue"
ALL: Manifest = {"catalogue": {"show": True, "gpuImages": True}}


@dataclass(frozen=True, slots=True)
class Row:
    """A model as the table has it; a cell that says nothing is empty."""

    id: str
    set: str
    repo: str
    stage: str
    interfaces: str
    gpu: str
    languages: str
    streaming: str
    words: str
    shown_gb: str
    needed_gb: str
    rtf_gpu: str
    rtf_cpu: str
    speed: str
    tier: str
    licence: str
    commit: str


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU as it is sold, and what GPU feature discovery says of it."""

    label: str
    sold_gb: str
    mib: str
    major: str
    minor: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One model of the catalogue, and its engine."""

    variant: ModelVariant
    engine: Engine

    @property
    def id(self) -> str:
        return self.variant.spec.served_name or ""

    @property
    def merged(self) -> Merged:
        return effective.merge(self.variant.metadata.name, self.variant.spec, self.engine.spec)


@cache
def rows(*sets: str) -> tuple[Row, ...]:
    """Of the table: all that an engine serves, or those of the sets that are named."""
    with (DATA / "models.csv").open() as file:
        found = [Row(**each) for each in csv.DictReader(file)]
    return tuple(each for each in found if (each.set in sets if sets else each.set != "unserved"))


@cache
def cards() -> tuple[Card, ...]:
    with (DATA / "cards.csv").open() as file:
        return tuple(Card(**each) for each in csv.DictReader(file))


def resources(values: Manifest) -> tuple[dict[str, Engine], dict[str, ModelVariant]]:
    """What the chart makes of values: engines by name, variants by public id."""
    made = render(values)
    engines = [Engine.model_validate(each) for each in made if each["kind"] == "Engine"]
    variants = [ModelVariant.model_validate(each) for each in made if each["kind"] == "ModelVariant"]
    return (
        {each.metadata.name: each for each in engines},
        {each.spec.served_name or each.metadata.name: each for each in variants},
    )


@cache
def shown() -> dict[str, Shown]:
    """The whole catalogue by public id, where there are images for GPUs."""
    engines, variants = resources(ALL)
    return {
        name: Shown(each, engines[each.spec.engine_ref.name])
        for name, each in variants.items()
        if each.spec.engine_ref
    }


@cache
def unserved() -> dict[str, Manifest]:
    """The entries that no engine here serves, as the file has them, by repository."""
    found = yaml.safe_load((FILES / "models" / "unserved.yaml").read_text())["models"]
    return {each["repo"]: each for each in found}
