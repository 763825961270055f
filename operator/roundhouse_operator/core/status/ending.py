"""The status of a variant that was deleted and is still there: who holds it, and that it is not Ready.

Its children go with it when it goes, and nothing is made or changed meanwhile; so the other conditions stay
as they were, and its pods may answer until then.
"""

from __future__ import annotations

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.model import Manifest
from roundhouse_operator.core.observed import Variant
from roundhouse_operator.core.status.conditions import false, write_conditions


def ending_status(variant: Variant, *, now: str) -> Manifest:
    before = variant.status.get("conditions") or []
    held = ", ".join(map(repr, variant.finalizers)) or "a finalizer"
    text = f"It was deleted, and is kept by {held}; nothing about it is changed, and its pods go with it"
    [told] = write_conditions(
        {ConditionType.READY: false(Reason.BEING_DELETED, text)},
        before,
        generation=variant.generation,
        now=now,
    )
    others = [one for one in before if one["type"] != ConditionType.READY]
    return {**variant.status, "observedGeneration": variant.generation, "conditions": [told, *others]}
