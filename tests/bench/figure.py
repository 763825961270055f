"""What a figure is, when it is good enough, and how it is shown.

Pure. What is measured, and how, is decided in the modules of the areas.
"""

from dataclasses import dataclass
from typing import Any, Literal

Area = Literal["operator", "gateway", "engines"]
Better = Literal["higher", "lower"]

_SIGN: dict[Better, str] = {"higher": "≥", "lower": "≤"}


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that is measured, and what is promised of it.

    Budget and aim are about the ratio where there is a reference (`against` says what it is), else about
    the figure itself. A budget is enforced, an aim is not yet. `noise` is the part of the budget by which
    it may be missed: what two runs of the same code differ by.
    """

    area: Area
    name: str
    unit: str
    better: Better
    against: str = ""
    budget: float | None = None
    noise: float = 0.0
    aim: float | None = None

    def within_budget(self, value: float) -> bool:
        if self.budget is None:
            return True
        if self.better == "higher":
            return value >= self.budget * (1 - self.noise)
        return value <= self.budget * (1 + self.noise)

    def reaches_aim(self, value: float) -> bool | None:
        """None where there is no aim. No noise is allowed: nothing fails by it."""
        if self.aim is None:
            return None
        return value >= self.aim if self.better == "higher" else value <= self.aim


@dataclass(frozen=True, slots=True)
class Result:
    """A figure as it was found. The reference was measured in the same run, or is a peer's constant."""

    figure: Figure
    ours: float
    reference: float | None = None

    def __post_init__(self) -> None:
        if bool(self.figure.against) != (self.reference is not None):
            raise ValueError(
                f"{self.figure.name!r} is held against {self.figure.against or None!r}, "
                f"but its reference is {self.reference!r}"
            )
        if self.reference is not None and self.reference <= 0:
            raise ValueError(
                f"the reference of {self.figure.name!r} is {self.reference!r}: nothing was measured"
            )

    @property
    def ratio(self) -> float | None:
        return None if self.reference is None else self.ours / self.reference

    @property
    def _value(self) -> float:
        return self.ours if self.ratio is None else self.ratio

    @property
    def ok(self) -> bool:
        return self.figure.within_budget(self._value)

    @property
    def aim_met(self) -> bool | None:
        """None where nothing is aimed at."""
        return self.figure.reaches_aim(self._value)

    def record(self) -> dict[str, Any]:
        """As `build/bench.json` holds it: `ok` is null where no budget says what would be."""
        figure = self.figure
        return {
            "area": figure.area,
            "name": figure.name,
            "unit": figure.unit,
            "better": figure.better,
            "ours": self.ours,
            "reference": self.reference,
            "ratio": self.ratio,
            "budget": figure.budget,
            "noise": figure.noise,
            "ok": None if figure.budget is None else self.ok,
            "aim": figure.aim,
            "aimMet": self.aim_met,
        }

    def line(self) -> str:
        """For a person at a terminal."""
        figure = self.figure
        parts = [f"{figure.area:<9} {figure.name:<44} {_number(self.ours):>7} {figure.unit:<9}"]
        if self.reference is not None and self.ratio is not None:
            parts.append(f"{figure.against} {_number(self.reference)}, ratio {_number(self.ratio)}")
        if figure.budget is not None:
            verdict = "ok" if self.ok else "MISSED"
            noise = f" ± {figure.noise:.0%}" if figure.noise else ""
            parts.append(f"budget {_SIGN[figure.better]} {_number(figure.budget)}{noise}: {verdict}")
        if figure.aim is not None:
            verdict = "met" if self.aim_met else "not met"
            parts.append(f"aim {_SIGN[figure.better]} {_number(figure.aim)}: {verdict}")
        return "  ".join(parts).rstrip()


def _number(value: float) -> str:
    """Three digits that mean something, and never an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:#.3g}".rstrip(".")
