"""The status after a pass that ended in an error which nobody foresaw: it says so, and leaves the rest.

The number of the incident is that of the place in the code, so that a pass which fails again the same way
writes nothing. The next pass that comes to its end takes the condition away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.model import Manifest
from roundhouse_operator.core.observed import Resource
from roundhouse_operator.core.status.conditions import Finding, true, unknown, write_conditions


@dataclass(frozen=True, slots=True)
class Incident:
    """An error by its type and the place where it happened."""

    number: str
    error: str

    @property
    def message(self) -> str:
        return (
            f"An unforeseen error ({self.error}) ended the last pass, and it is tried again; "
            f"the operator's log tells of incident {self.number}"
        )


def incident_status(resource: Resource[Any], incident: Incident, *, now: str) -> Manifest:
    before = resource.status.get("conditions") or []
    findings: dict[ConditionType, Finding | None] = {
        ConditionType.DEGRADED: true(Reason.INTERNAL_ERROR, incident.message)
    }
    if not any(one["type"] == ConditionType.READY for one in before):
        findings[ConditionType.READY] = unknown(Reason.INTERNAL_ERROR, incident.message)
    told = write_conditions(findings, before, generation=resource.generation, now=now)
    replaced = {one["type"] for one in told}
    kept = [one for one in before if one["type"] not in replaced]
    return {**resource.status, "conditions": [*kept, *told]}
