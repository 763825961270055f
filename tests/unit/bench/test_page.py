"""docs/reference/performance.md lists each figure with its budget, and nothing that is not measured."""

from pathlib import Path

from tests.bench.areas import FIGURES, MEASURE
from tests.bench.engines.basics import NOT_HELD
from tests.bench.figure import Figure

PAGE = (Path(__file__).parents[3] / "docs/reference/performance.md").read_text()


def row(figure: Figure) -> list[str]:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:g}"

    noise = f"{figure.noise:.0%}" if figure.noise else ""
    words = [figure.area, figure.name, figure.unit, figure.better, figure.against]
    return [*words, number(figure.budget), noise, number(figure.aim)]


def test_the_table_is_what_the_code_has() -> None:
    lines = PAGE.split("\n## Figures\n")[1].split("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert cells[2:] == [row(figure) for figure in FIGURES]


def test_names_are_different_and_areas_known() -> None:
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    assert {figure.area for figure in FIGURES} == set(MEASURE)


def test_what_is_not_held_yet_is_measured() -> None:
    assert {figure.name for figure in FIGURES} >= NOT_HELD
