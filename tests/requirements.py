"""Which required behaviours no test names: `python -m tests.requirements`.

Marks are read from the text of the tests, not by importing them, so it needs nothing that tests need.
The list is docs/reference/requirements.md. A mark that is not in the list is an error.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIST = ROOT / "docs/reference/requirements.md"
TESTS = ROOT / "tests"
LINE = re.compile(r"^- \*\*(?P<number>S\d-\d+)\*\* (?P<history>\*history\* )?(?P<text>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Requirement:
    """A behaviour that is required; `history` needs no test."""

    number: str
    text: str
    history: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """A number that a test names, and where."""

    number: str
    place: str


def read_list(text: str) -> dict[str, Requirement]:
    """The list, by number, in its order."""
    return {
        match["number"]: Requirement(match["number"], match["text"], match["history"] is not None)
        for match in LINE.finditer(text)
    }


def marks(source: str, path: str) -> Iterator[Mark]:
    """The numbers in the `pytest.mark.req(…)` of a file."""
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.req":
            for argument in node.args:
                number = argument.value if isinstance(argument, ast.Constant) else ast.unparse(argument)
                yield Mark(str(number), f"{path}:{node.lineno}")


def report(required: dict[str, Requirement], found: list[Mark]) -> tuple[str, bool]:
    """The text to print, and whether all marks are in the list."""
    strange = [mark for mark in found if mark.number not in required]
    counted = {number: each for number, each in required.items() if not each.history}
    unnamed = [each for number, each in counted.items() if number not in {mark.number for mark in found}]
    lines = [f"{each.number}  {each.text}" for each in unnamed]
    lines.append(f"{len(counted) - len(unnamed)} of {len(counted)} required behaviours are named by a test")
    lines += [
        f"{mark.place}: {mark.number!r} is not in docs/reference/requirements.md: mend the mark"
        for mark in strange
    ]
    return "\n".join(lines) + "\n", not strange


def main() -> int:
    found = [
        mark
        for path in sorted(TESTS.rglob("*.py"))
        for mark in marks(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]
    text, good = report(read_list(LIST.read_text(encoding="utf-8")), found)
    sys.stdout.write(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
