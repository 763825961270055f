"""The status of kinds that this version accepts and does not serve yet: their names, and that it does not.

They hold their public names all the same, so that none of them changes hands on the day they are served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import AdapterSpec
from roundhouse_operator.core import ids
from roundhouse_operator.core.ids import Award
from roundhouse_operator.core.kinds import ADAPTER, Kind
from roundhouse_operator.core.observed import Adapter, Invalid, Policy
from roundhouse_operator.core.status.conditions import (
    Degradations,
    Finding,
    false,
    ready,
    true,
    unknown,
    write_conditions,
)

_ADAPTER_TYPES: Final = (ConditionType.COMPATIBLE, ConditionType.WEIGHTS_READY, ConditionType.LOADED)


def unserved_status(resource: Adapter | Policy, award: Award, *, now: str) -> Manifest:
    findings = _findings(resource.kind, resource.spec if isinstance(resource.spec, Invalid) else None, award)
    status: Manifest = {
        "observedGeneration": resource.generation,
        "conditions": write_conditions(
            findings, resource.status.get("conditions") or (), generation=resource.generation, now=now
        ),
        "publishedNames": list(award.won),
    }
    if isinstance(resource.spec, AdapterSpec):
        status["servedName"] = ids.served_name(resource.name, resource.spec)
    return {name: value for name, value in status.items() if value not in (None, [])}


def _findings(kind: Kind, invalid: Invalid | None, award: Award) -> Mapping[ConditionType, Finding | None]:
    message = f"{kind} is accepted and not honoured yet: nothing serves it in this version"
    accepted = _accepted(invalid, award)
    served = false(Reason.NOT_YET_SUPPORTED, message)
    others = _ADAPTER_TYPES if kind == ADAPTER else ()
    degraded = Degradations()
    degraded.add(Reason.NOT_YET_SUPPORTED, message)
    if award.won and award.lost:
        degraded.add(Reason.ALIAS_CONFLICT, f"Names that are not published here: {_owners(award)}")
    return {
        ConditionType.READY: ready((accepted, served), served),
        ConditionType.ACCEPTED: accepted,
        **{one: unknown(Reason.NOT_YET_SUPPORTED, message) for one in others},
        ConditionType.DEGRADED: degraded.finding(),
    }


def _accepted(invalid: Invalid | None, award: Award) -> Finding:
    if invalid:
        return false(invalid.reason, invalid.message)
    if award.lost and not award.won:
        return false(Reason.NAME_CONFLICT, f"The public name {_owners(award)}")
    return true(Reason.VALID, "The spec is accepted")


def _owners(award: Award) -> str:
    return ", ".join(f"{name!r} belongs to {key}" for name, key in sorted(award.lost.items()))
