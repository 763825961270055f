"""Cards as their labels describe them, against needs as people write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_api.quantity import Quantity
from roundhouse_api.v1alpha1 import Hardware, Source
from roundhouse_operator.core import placement
from roundhouse_operator.core.placement import memory
from tests.unit.operator.worlds import fleet_of, node


def card(name: str, mib: int, product: str) -> Manifest:
    labels = {"nvidia_com__gpu_memory": str(mib), "nvidia_com__gpu_product": product}
    return node(name, 1, **labels)


OLD_T4 = card("old-t4", 15109, "Tesla-T4")
T4 = card("t4", 15360, "Tesla-T4")
A100 = card("a100", 39538, "NVIDIA-A100-SXM4-40GB")
H100 = card("h100", 81559, "NVIDIA-H100-80GB-HBM3")


def asked(**gpu: Any) -> placement.Stated:
    return placement.state(Hardware.model_validate({"gpu": {"mode": "Required", **gpu}}))


@dataclass(frozen=True)
class Case:
    id: str
    card: Manifest
    need: str
    short_mib: int
    """0: it fits."""


CASES = (
    Case("15G is what a 16 GB card is asked for", OLD_T4, "15G", 0),
    Case("16G misses an old T4", OLD_T4, "16G", 150),
    Case("16G fits a newer one", T4, "16G", 0),
    Case("16Gi misses an old T4", OLD_T4, "16Gi", 1275),
    Case("16Gi misses a newer one", T4, "16Gi", 1024),
    Case("40G fits an A100 of 40 GB", A100, "40G", 0),
    Case("40Gi misses it", A100, "40Gi", 1422),
    Case("80G fits an H100 of 80 GB", H100, "80G", 0),
    Case("80Gi misses it", H100, "80Gi", 361),
    Case("to the MiB", OLD_T4, "15109Mi", 0),
    Case("and not one more", OLD_T4, "15110Mi", 1),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_card_is_what_its_label_says(case: Case) -> None:
    fleet = fleet_of(case.card)
    need = placement.place(asked(minMemory=case.need), fleet)
    found = fleet.survey(need)
    assert found.fitting == (case.short_mib == 0)
    [expression] = need.terms[0]
    assert (expression.operator, expression.values) == ("Gt", (str(Quantity(case.need).mib - 1),))
    if case.short_mib:
        label = case.card["metadata"]["labels"]["nvidia.com/gpu.memory"]
        words = f"the largest that is too small has {label} MiB, {case.short_mib} MiB less than needed"
        assert words in placement.explain(need, found)


def test_a_need_is_told_as_it_was_written_and_in_the_units_of_the_label() -> None:
    need = placement.place(asked(minMemory="16G"), fleet_of(OLD_T4))
    assert placement.wanted(need) == "1 × nvidia.com/gpu with 15259 MiB each (16G)"


@pytest.mark.parametrize(
    ("total", "weights", "told"),
    [
        (10240, 6144, {"weights": "6144Mi", "overhead": "4096Mi", "total": "10240Mi"}),
        (10240, None, {"total": "10240Mi"}),
        (None, 6144, {"weights": "6144Mi"}),
        (4096, 6144, {"weights": "6144Mi", "total": "4096Mi"}),
    ],
    ids=["both", "no weights", "nothing stated", "loaded smaller than they lie on disk"],
)
def test_required_memory(total: int | None, weights: int | None, told: Manifest) -> None:
    found = memory.required(total, weights)
    assert found
    assert found.model_dump(exclude_none=True) == told


def test_the_weights_size_is_stated_or_fetched() -> None:
    builtin = {"type": "Builtin"}
    assert memory.weights_mib(Source.model_validate({**builtin, "size": "3Gi"}), {}) == 3072
    fetched = {"weights": {"totalBytes": (1 << 20) + 1}}
    assert memory.weights_mib(Source.model_validate(builtin), fetched) == 2
    assert memory.weights_mib(Source.model_validate(builtin), {"weights": {"totalBytes": -1}}) is None


@pytest.mark.parametrize(
    ("before", "seen", "peak"),
    [(None, None, None), (None, 1, 256), ("512Mi", 1, 512), ("512Mi", 513 << 20, 768), ("512Mi", None, 512)],
)
def test_a_measured_peak_is_rounded_up_and_never_falls(
    before: str | None, seen: int | None, peak: int | None
) -> None:
    assert memory.highest(before, seen) == peak
