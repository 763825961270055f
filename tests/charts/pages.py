"""Makes the documentation of the chart's values: the table in its README and the reference page. Pure."""

import json
from collections.abc import Sequence

from .values import Value, ValuesError

BEGIN = "<!-- values: made from values.yaml by `make gen` -->"
END = "<!-- end of values -->"


def values_table(values: Sequence[Value]) -> str:
    """A Markdown table of every value that can be set."""
    rows = ["| Value | Default | What it is |", "|---|---|---|"]
    for value in (leaf for each in values for leaf in each.leaves()):
        default = json.dumps(value.default, ensure_ascii=False)
        rows.append(f"| `{value.name}` | `{default}` | {_cell(value.description)}{_choices(value)} |")
    return "\n".join(rows) + "\n"


def readme(text: str, values: Sequence[Value]) -> str:
    """The README with its table made anew; all else stays."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValuesError(f"the chart's README.md must hold the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{values_table(values)}\n{END}{after}"


def reference_page(values: Sequence[Value]) -> str:
    """docs/reference/chart.md: the values, part by part."""
    parts = [
        "# Chart values",
        "",
        "Made from `charts/roundhouse/values.yaml` by `make gen`. Change that instead.",
    ]
    top = [value for value in values if not value.members]
    parts += ["", "## General", "", values_table(top).rstrip()]
    for group in (value for value in values if value.members):
        parts += ["", f"## `{group.name}`", "", group.description, "", values_table([group]).rstrip()]
    return "\n".join(parts) + "\n"


def _choices(value: Value) -> str:
    choices = value.narrowed.get("enum")
    return f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
