"""Each model fits each card that is sold with the memory it needs, by what the card's labels say.

Cards report less than their names say: a T4 with an older driver has 15109 MiB and not 16 GB.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Device, GPUMode
from roundhouse_operator.core import placement
from tests.unit.catalogue.shown import Card, Row, cards, rows, shown
from tests.unit.operator.kinds_of_nodes import CPU, PLAIN
from tests.unit.operator.worlds import fleet_of


def node_of(card: Card) -> Manifest:
    name = card.label.lower()
    labels = {
        **PLAIN["metadata"]["labels"],
        "kubernetes.io/hostname": name,
        "nvidia.com/gpu.product": card.label,
        "nvidia.com/gpu.memory": card.mib,
        "nvidia.com/gpu.compute.major": card.major,
        "nvidia.com/gpu.compute.minor": card.minor,
    }
    return {**PLAIN, "metadata": {"name": name, "namespace": "", "labels": labels}}


def expected(row: Row) -> set[str]:
    """Cards that are sold with enough memory and compute in the format of the weights."""
    by_vllm = row.id.endswith("-FP8") or row.id.startswith("voxtral")
    least = (8, 0) if by_vllm else (0, 0)
    return {
        card.label.lower()
        for card in cards()
        if Decimal(card.sold_gb) >= Decimal(row.needed_gb) and (int(card.major), int(card.minor)) >= least
    }


NEED_A_GPU = [row for row in rows() if row.gpu in ("Required", "Optional")]


@pytest.mark.parametrize("row", NEED_A_GPU, ids=lambda row: row.id)
def test_a_card_that_is_sold_with_enough_memory_is_enough(row: Row) -> None:
    hardware = shown()[row.id].merged.hardware
    fitting = set()
    for card in cards():
        fleet = fleet_of(node_of(card))
        need = placement.place(placement.state(hardware), fleet)
        if need.device is Device.GPU and fleet.survey(need).fitting:
            fitting.add(card.label.lower())
    assert fitting == expected(row)


@pytest.mark.parametrize("row", [row for row in rows() if row.gpu == "Optional"], ids=lambda row: row.id)
@pytest.mark.req("S1-7")
def test_a_model_that_may_do_without_a_gpu_runs_on_a_node_without(row: Row) -> None:
    fleet = fleet_of(CPU)
    need = placement.place(placement.state(shown()[row.id].merged.hardware), fleet)
    assert (need.device, fleet.survey(need).fitting) == (Device.CPU, 1)


def test_every_model_on_cpus_fits_a_node_of_a_few_cores() -> None:
    fleet = fleet_of(CPU)
    for row in rows():
        hardware = shown()[row.id].merged.hardware
        if row.gpu == GPUMode.NONE.value:
            need = placement.place(placement.state(hardware), fleet)
            assert fleet.survey(need).fitting == 1, row.id
