"""Quantities: what is one, how much it is, and that its text is kept."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_api.quantity import MAX_LENGTH, PATTERN, Quantity
from tests.unit.api.manifests import engine

DECIMAL = {"k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


@pytest.mark.parametrize(
    ("text", "in_bytes", "mib"),
    [
        ("15G", 15_000_000_000, 14306),
        ("15Gi", 16_106_127_360, 15360),
        ("0", 0, 0),
        ("1", 1, 1),
        ("1.5Gi", 1_610_612_736, 1536),
        (".5k", 500, 1),
        ("5.", 5, 1),
        ("1e9", 1_000_000_000, 954),
        ("15E3", 15_000, 1),
        ("1E", 10**18, 953_674_316_407),
        ("500m", 1, 1),
        ("1n", 1, 1),
    ],
)
def test_amounts(text: str, in_bytes: int, mib: int) -> None:
    assert Quantity(text).bytes == in_bytes
    assert Quantity(text).mib == mib


@pytest.mark.parametrize(
    ("card", "label_mib", "need", "fits"),
    [
        ("Tesla T4, newer driver", 15360, "15G", True),
        ("Tesla T4, older driver", 15109, "15G", True),
        ("Tesla T4, older driver", 15109, "16G", False),
        ("A100 40GB", 39538, "40G", True),
        ("A100 40GB", 39538, "40Gi", False),
        ("H100 80GB", 81559, "80G", True),
    ],
)
def test_needs_compare_with_the_labels_of_real_cards(
    card: str, label_mib: int, need: str, fits: bool
) -> None:
    assert (label_mib >= Quantity(need).mib) is fits


@given(st.integers(0, 10**6), st.sampled_from(sorted(DECIMAL)))
def test_decimal_units_are_powers_of_1000(number: int, unit: str) -> None:
    assert Quantity(f"{number}{unit}").bytes == number * 1000 ** DECIMAL[unit]


@given(st.integers(0, 10**6), st.sampled_from(sorted(BINARY)))
def test_binary_units_are_powers_of_1024(number: int, unit: str) -> None:
    assert Quantity(f"{number}{unit}").bytes == number * 1024 ** BINARY[unit]


@given(st.from_regex(PATTERN, fullmatch=True).filter(lambda text: len(text) <= MAX_LENGTH))
def test_whatever_the_schema_takes_is_an_amount_and_keeps_its_text(text: str) -> None:
    quantity = Quantity.parse(text)
    assert quantity == text
    assert quantity.exact >= 0
    assert quantity.bytes - 1 < quantity.exact <= quantity.bytes
    assert Fraction(quantity.mib - 1) * 2**20 < quantity.exact <= quantity.mib * 2**20


@given(st.text(max_size=40))
def test_whatever_the_schema_refuses_is_refused(text: str) -> None:
    if re.fullmatch(PATTERN, text) is None:
        with pytest.raises(ValueError, match="is not a quantity"):
            Quantity.parse(text)


@given(st.integers(0, 2**40))
def test_mib_and_back(mib: int) -> None:
    assert Quantity.of_mib(mib).mib == mib


@pytest.mark.parametrize("value", [True, 1.5, None, [], "15GB", "-1", "1 G", "1e", "9" * 33])
def test_refusal_says_how_to_write_one(value: object) -> None:
    with pytest.raises(ValueError, match="is not a quantity: write a number"):
        Quantity.parse(value)


def test_a_plain_number_is_bytes() -> None:
    gpu = engine(hardware={"gpu": {"mode": "Required", "minMemory": 1048576}}).spec.hardware
    assert gpu is not None
    assert gpu.gpu is not None
    assert gpu.gpu.min_memory == Quantity("1048576")
    assert gpu.gpu.min_memory.mib == 1
