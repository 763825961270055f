"""The status of kinds that this version accepts and does not serve yet: it says so, and nothing else.

They hold no public names, so that an adapter which nobody loads takes none from a model that is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import ADAPTER, Kind
from roundhouse_operator.core.observed import Adapter, Invalid, Policy
from roundhouse_operator.core.status.conditions import Finding, false, ready, true, unknown, write_conditions

_ADAPTER_TYPES: Final = (ConditionType.COMPATIBLE, ConditionType.WEIGHTS_READY, ConditionType.LOADED)


def unserved_status(resource: Adapter | Policy, *, now: str) -> Manifest:
    findings = _findings(resource.kind, resource.spec if isinstance(resource.spec, Invalid) else None)
    return {
        "observedGeneration": resource.generation,
        "conditions": write_conditions(
            findings, resource.status.get("conditions") or (), generation=resource.generation, now=now
        ),
    }


def _findings(kind: Kind, invalid: Invalid | None) -> Mapping[ConditionType, Finding]:
    message = f"{kind} is accepted and not honoured yet: nothing serves it in this version"
    accepted = (
        false(invalid.reason, invalid.message) if invalid else true(Reason.VALID, "The spec is accepted")
    )
    served = false(Reason.NOT_YET_SUPPORTED, message)
    others = _ADAPTER_TYPES if kind == ADAPTER else ()
    return {
        ConditionType.READY: ready((accepted, served), served),
        ConditionType.ACCEPTED: accepted,
        **{one: unknown(Reason.NOT_YET_SUPPORTED, message) for one in others},
        ConditionType.DEGRADED: true(Reason.NOT_YET_SUPPORTED, message),
    }
