"""`python -m tests.bench [--area AREA]`: print each figure as it is found, write all to build/bench.json.

Ends with 1 when a budget is missed by more than its noise.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.bench.areas import MEASURE
from tests.bench.figure import Area, Result
from tests.bench.machine import header
from tests.support.processors import Stolen

OUTPUT = Path(__file__).parents[2] / "build/bench.json"
DISTURBED = 0.05
"""A larger part of the processors' time than this, taken by the host of a virtual machine, is told."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure Roundhouse.")
    parser.add_argument("--area", choices=list(MEASURE), help="measure this part only")
    chosen: Area | None = parser.parse_args().area
    print(header(), flush=True)
    missed = [result for result in measure([chosen] if chosen else list(MEASURE)) if not result.ok]
    if missed:
        names = ", ".join(repr(result.figure.name) for result in missed)
        sys.exit(f"error: the budget was missed by more than its noise: {names}")


def measure(areas: Iterable[Area]) -> list[Result]:
    """What was found before an area failed is written too."""
    results: list[Result] = []
    try:
        for area in areas:
            stolen = Stolen()
            for result in MEASURE[area]():
                results.append(result)
                print(result.line() + _disturbance(stolen.share), flush=True)
                stolen = Stolen()
    finally:
        OUTPUT.parent.mkdir(exist_ok=True)
        OUTPUT.write_text(json.dumps([result.record() for result in results], indent=1) + "\n")
    return results


def _disturbance(share: float) -> str:
    return f"  (meanwhile the host took {share:.0%} of the processors)" if share > DISTURBED else ""


if __name__ == "__main__":
    main()
