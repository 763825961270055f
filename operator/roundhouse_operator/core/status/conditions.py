"""Conditions as they are written: one list, in a fixed order, that changes only when something changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from roundhouse_api.conditions import ConditionStatus, ConditionType, Reason
from roundhouse_api.model import Manifest
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.masking import masked

MESSAGE_BYTES: Final = 2048
_OF_ALL: Final = frozenset({Reason.LOAD_UNKNOWN})
"""What is told of many at once: it is the reason only of one that has no cause of its own."""
_ORDER: Final = {kind: place for place, kind in enumerate(ConditionType)}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one condition is to say."""

    status: ConditionStatus
    reason: Reason
    message: str
    detail: str = ""
    """A part of the message that differs with each occurrence of the same trouble, in words of strangers."""

    @property
    def holds(self) -> bool:
        return self.status is ConditionStatus.TRUE


def true(reason: Reason, message: str) -> Finding:
    return Finding(ConditionStatus.TRUE, reason, message)


def false(reason: Reason, message: str, detail: str = "") -> Finding:
    return Finding(ConditionStatus.FALSE, reason, message, detail)


def unknown(reason: Reason, message: str) -> Finding:
    return Finding(ConditionStatus.UNKNOWN, reason, message)


def troubled(trouble: Trouble) -> Finding:
    return false(trouble.reason, trouble.message, trouble.detail)


@dataclass(slots=True)
class Degradations:
    """Causes of the one condition Degraded; its reason is that of the first of its own."""

    causes: list[tuple[Reason, str]] = field(default_factory=list)
    detail: str = ""
    """Of the last cause."""

    def add(self, reason: Reason, message: str) -> None:
        self.causes.append((reason, message))

    def finding(self) -> Finding | None:
        if not self.causes:
            return None
        message = "; ".join(message for _, message in self.causes)
        own = (reason for reason, _ in self.causes if reason not in _OF_ALL)
        return Finding(ConditionStatus.TRUE, next(own, self.causes[0][0]), message, self.detail)


def first_failing(findings: Sequence[Finding]) -> Finding | None:
    return next((one for one in findings if not one.holds), None)


def ready(chain: Sequence[Finding], well: Finding) -> Finding:
    """Sums up: `well` if all hold, else the first that does not, with its cause."""
    failing = first_failing(chain)
    if failing is None:
        return true(well.reason, well.message)
    return false(failing.reason, failing.message, failing.detail)


def write_conditions(
    findings: Mapping[ConditionType, Finding | None], before: Sequence[Manifest], *, generation: int, now: str
) -> list[Manifest]:
    """`now` stands where a status is new or changed; elsewhere the time that was there."""
    known = {one["type"]: one for one in before}
    return [
        _condition(kind, finding, known.get(kind.value), generation, now)
        for kind, finding in sorted(findings.items(), key=lambda item: _ORDER[item[0]])
        if finding is not None
    ]


def _condition(
    kind: ConditionType, finding: Finding, before: Manifest | None, generation: int, now: str
) -> Manifest:
    unchanged = before is not None and before.get("status") == finding.status.value
    return {
        "type": kind.value,
        "status": finding.status.value,
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before and unchanged else now,
        "reason": finding.reason.value,
        "message": _message(finding, before, generation),
    }


def _message(finding: Finding, before: Manifest | None, generation: int) -> str:
    if not finding.detail:
        return _cut(finding.message)
    if (
        before is not None
        and before.get("reason") == finding.reason.value
        and before.get("observedGeneration") == generation
        and before.get("message", "").startswith(f"{finding.message}: ")
    ):
        return str(before["message"])
    return _cut(f"{finding.message}: {masked(finding.detail)}")


def _cut(message: str) -> str:
    return message if len(message) <= MESSAGE_BYTES else f"{message[: MESSAGE_BYTES - 1]}…"


def status_patch(before: Manifest, after: Manifest) -> Manifest:
    """The JSON merge patch that turns one status into the other; empty when they are the same."""
    patch: Manifest = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := status_patch(old, value):
                patch[name] = inner
        elif value != old:
            patch[name] = value
    return patch
