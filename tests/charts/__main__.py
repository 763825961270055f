"""`python -m tests.charts gen` writes the chart's generated files, `check` fails where one is not current."""

import sys
from pathlib import Path

from .models import catalogue_page
from .pages import readme, reference_page
from .schema import values_schema
from .values import ValuesError, parse_values

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "roundhouse"


def generated() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    values = parse_values((CHART / "values.yaml").read_text())
    return {
        CHART / "values.schema.json": values_schema(values),
        CHART / "README.md": readme((CHART / "README.md").read_text(), values),
        ROOT / "docs" / "reference" / "chart.md": reference_page(values),
        ROOT / "docs" / "reference" / "catalogue.md": catalogue_page(CHART / "files" / "catalogue"),
    }


def main() -> None:
    if sys.argv[1:] not in (["gen"], ["check"]):
        sys.exit("usage: python -m tests.charts gen|check")
    try:
        wanted = generated()
    except ValuesError as error:
        sys.exit(f"error: {error}")
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if sys.argv[1] == "check" and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"error: not current: {names}. Run `make gen` and commit what it writes.")
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
