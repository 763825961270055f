"""Text for a terminal: columns that line up, and sections of lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def columns(rows: Iterable[Sequence[str]], *, indent: str = "") -> list[str]:
    """Each cell as wide as the widest of its column, but for the last, which may run on."""
    table = [[str(cell) for cell in row] for row in rows]
    count = max(map(len, table), default=0)
    widths = [
        max((len(row[place]) for row in table if place < len(row)), default=0) for place in range(count)
    ]
    return [
        indent
        + "  ".join(
            cell.ljust(width) if place < len(row) - 1 else cell
            for place, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in table
    ]


def section(title: str, lines: Sequence[str]) -> list[str]:
    """Nothing at all where there are no lines."""
    return ["", title, *(f"  {line}" for line in lines)] if lines else []
