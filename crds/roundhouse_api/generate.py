"""Writes all that is made from the models: `python -m roundhouse_api.generate [--check]`.

It runs in the project's root. `--check` writes nothing and fails, naming the files, where one differs
or should not be there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from roundhouse_api.crdgen import render_crds
from roundhouse_api.docsgen import api_reference, conditions_reference
from roundhouse_api.names import GROUP

CRDS: Final = Path("crds")
CHART_CRDS: Final = Path("charts/roundhouse/files/crds")
REFERENCE: Final = Path("docs/reference")


def generated_files() -> dict[Path, str]:
    """Path below the project's root → text."""
    crds = render_crds()
    return {
        **{CRDS / name: text for name, text in crds.items()},
        **{CHART_CRDS / name: text for name, text in crds.items()},
        REFERENCE / "api.md": api_reference(),
        REFERENCE / "conditions.md": conditions_reference(),
    }


def differences(root: Path, files: Mapping[Path, str]) -> Iterator[Path]:
    """Generated files that are missing or differ, and CRDs of kinds that are no more."""
    for path, text in files.items():
        target = root / path
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            yield path
    for folder in (CRDS, CHART_CRDS):
        found = sorted((root / folder).glob(f"{GROUP}_*.yaml"))
        yield from (path.relative_to(root) for path in found if path.relative_to(root) not in files)


def write(root: Path, files: Mapping[Path, str]) -> None:
    for path in list(differences(root, files)):
        target = root / path
        if path not in files:
            target.unlink()
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(files[path], encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="roundhouse_api.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    parser.add_argument("--root", type=Path, default=Path(), help="the project's root (default: here)")
    options = parser.parse_args(arguments)
    files = generated_files()
    if not options.check:
        write(options.root, files)
        return 0
    stale = [str(path) for path in differences(options.root, files)]
    if stale:
        sys.stderr.write(f"not as the models say, run `make gen`: {', '.join(stale)}\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
