"""The table of reasons is whole, and what it names as proof exists."""

import re
from pathlib import Path

from roundhouse_loader.failure import Reason

ROOT = Path(__file__).resolve().parents[3]
ROW = re.compile(r"^\| `(\w+)` \|.*\| (?:yes|no) \| (.*) \|$", flags=re.MULTILINE)


def test_every_reason_has_its_row_and_its_proof() -> None:
    rows = dict(ROW.findall((ROOT / "engine-images/loader/README.md").read_text()))
    assert set(rows) == {reason.value for reason in Reason}
    folders = (ROOT / "tests/unit/loader", ROOT / "tests/conformance/loader")
    tests = "".join(path.read_text() for folder in folders for path in folder.glob("test_*.py"))
    for reason, proof in rows.items():
        named = re.findall(r"`(\w+)`", proof)
        assert named
        for name in named:
            found = re.search(rf"^def {name}\(.*?(?=^def |\Z)", tests, flags=re.MULTILINE | re.DOTALL)
            assert found, f"{name} does not exist"
            assert reason in found[0] or "refusal" in found[0], f"{name} does not show {reason}"
