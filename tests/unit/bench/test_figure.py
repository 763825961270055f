"""Ratio, verdict and the ways in which a figure is shown."""

from dataclasses import dataclass

import pytest

from tests.bench.figure import Better, Figure, Result


@dataclass(frozen=True)
class Case:
    id: str
    better: Better
    ours: float
    reference: float | None
    ok: bool


# Budget 10 with a noise of a fifth.
CASES = [
    Case("higher: met", "higher", 10.0, None, ok=True),
    Case("higher: missed within the noise", "higher", 8.0, None, ok=True),
    Case("higher: missed by more", "higher", 7.9, None, ok=False),
    Case("lower: met", "lower", 10.0, None, ok=True),
    Case("lower: missed within the noise", "lower", 12.0, None, ok=True),
    Case("lower: missed by more", "lower", 12.1, None, ok=False),
    Case("the ratio counts where there is one", "higher", 5.0, 0.5, ok=True),
    Case("a large figure does not help a small ratio", "higher", 100.0, 50.0, ok=False),
    Case("lower: the ratio counts too", "lower", 300.0, 20.0, ok=False),
]


def result(ours: float, reference: float | None, better: Better = "higher", noise: float = 0.2) -> Result:
    against = "" if reference is None else "a peer"
    return Result(
        Figure("gateway", "speed", "req/s", better, against, budget=10, noise=noise), ours, reference
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_budget_is_met_within_its_noise(case: Case) -> None:
    assert result(case.ours, case.reference, case.better).ok is case.ok


def test_a_budget_of_nothing_allows_nothing() -> None:
    none = Figure("operator", "writes", "writes", "lower", budget=0)
    assert Result(none, 0).ok
    assert not Result(none, 1).ok


def test_an_aim_is_told_and_fails_nothing() -> None:
    figure = Figure("operator", "memory", "MB", "lower", aim=1)
    missed, met = Result(figure, 1000), Result(figure, 1)
    assert missed.ok
    assert missed.line().endswith("aim ≤ 1.00: not met")
    assert met.line().endswith("aim ≤ 1.00: met")
    told = missed.record()
    assert (told["budget"], told["ok"], told["aim"], told["aimMet"]) == (None, None, 1, False)
    assert met.record()["aimMet"] is True


def test_an_aim_is_about_the_ratio_where_there_is_one() -> None:
    figure = Figure("gateway", "speed", "req/s", "higher", "a peer", budget=0.5, aim=0.9)
    near = Result(figure, 80, 100)
    assert near.ok
    assert near.line().endswith("ratio 0.800  budget ≥ 0.500: ok  aim ≥ 0.900: not met")


def test_the_record_holds_what_the_line_tells() -> None:
    found = result(30.0, 2.0)
    assert found.record() == {
        "area": "gateway",
        "name": "speed",
        "unit": "req/s",
        "better": "higher",
        "ours": 30.0,
        "reference": 2.0,
        "ratio": 15.0,
        "budget": 10,
        "noise": 0.2,
        "ok": True,
        "aim": None,
        "aimMet": None,
    }
    for part in ("gateway", "speed", "30.0 req/s", "a peer 2.00", "ratio 15.0", "budget ≥ 10.0 ± 20%: ok"):
        assert part in found.line()


def test_a_missed_budget_is_hard_to_overlook() -> None:
    assert "budget ≤ 10.0: MISSED" in result(11, None, "lower", noise=0).line()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.0123, "0.0123"), (2.5, "2.50"), (42.0, "42.0"), (123_456.0, "123,456")],
)
def test_numbers_have_three_digits_that_mean_something(value: float, shown: str) -> None:
    assert f" {shown} req/s" in result(value, None).line()


@pytest.mark.parametrize(("against", "reference"), [("", 1.0), ("a peer", None), ("a peer", 0.0)])
def test_a_reference_that_was_not_measured_is_a_fault(against: str, reference: float | None) -> None:
    with pytest.raises(ValueError, match="'speed'"):
        Result(Figure("gateway", "speed", "req/s", "higher", against), 1.0, reference)
