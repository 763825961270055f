"""What came of each request: right, a declared refusal, cut off, or wrong, which fails the test."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from typing_extensions import override

PAGE = Path(__file__).parents[4] / "docs/reference/http.md"
ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \|", re.MULTILINE)
RIGHT = "right"
CUT = "cut off"
MOST_TOLD = 20
OF_THE_ORDERS = frozenset({(400, "as_ordered")})
"""An engine's own error, which reaches the client in its words."""


def declared() -> frozenset[tuple[int, str]]:
    """Every status and code that the reference lists."""
    found = {(int(status), code) for code, status in ROW.findall(PAGE.read_text())}
    assert len(found) > 40, "the tables are no longer read"
    return frozenset(found) | OF_THE_ORDERS


@dataclass
class Tally:
    """Of all requests, by their kind."""

    declared: frozenset[tuple[int, str]] = field(default_factory=declared)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def right(self, kind: str) -> None:
        self.counts[kind, RIGHT] += 1

    def cut(self, kind: str) -> None:
        """As it is where an engine dies in the midst of its answer."""
        self.counts[kind, CUT] += 1

    def ended(self, kind: str, how: str) -> None:
        self.counts[kind, how] += 1

    def fault(self, kind: str, what: str) -> None:
        self.counts[kind, "WRONG"] += 1
        if len(self.wrong) < MOST_TOLD:
            self.wrong.append(f"{kind}: {what}")

    def take(
        self,
        kind: str,
        status: int,
        body: bytes,
        right: Callable[[Any], bool],
        only: Mapping[int, str] | None = None,
    ) -> None:
        """An answer that came whole. `only`: the one refusal that there may be, by its status."""
        if status == 200 and only is None:
            self._check(kind, body, right)
            return
        code = code_of(body)
        known = (status, code) in self.declared
        if known and (only is None or only.get(status) == code):
            self.counts[kind, RIGHT if only else code] += 1
        else:
            self.fault(kind, f"{status} {body[:300]!r}")

    def _check(self, kind: str, body: bytes, right: Callable[[Any], bool]) -> None:
        try:
            good = right(read(body))
        except (LookupError, TypeError, ValueError):
            good = False
        if good:
            self.right(kind)
        else:
            self.fault(kind, f"200 {body[:300]!r}")

    def share(self, kind: str) -> float:
        """How many of the kind were right, of those that came to an answer."""
        came = sum(count for (each, _), count in self.counts.items() if each == kind)
        return self.counts[kind, RIGHT] / came if came else 0.0

    @property
    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.counts}

    @override
    def __str__(self) -> str:
        rows = sorted(self.counts.items())
        return "\n".join(f"  {kind:<22} {how:<32} {count}" for (kind, how), count in rows)


def read(body: bytes) -> Any:
    """JSON as such, else text."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode()


def code_of(body: bytes) -> str:
    """In either shape of errors; also of an error that comes as an event."""
    told = read(body)
    if not isinstance(told, dict):
        return ""
    error = told.get("error") or told.get("detail")
    return str(error.get("code")) if isinstance(error, dict) else ""
