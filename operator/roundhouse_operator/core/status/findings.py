"""The conditions of a ModelVariant, by the truth table of `Ready`.

Each is found in the module of its name. Availability never depends on a rollout that is under way.
"""

from __future__ import annotations

from collections.abc import Mapping

from roundhouse_api.conditions import ConditionType
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.observed import World
from roundhouse_operator.core.outcome import Outcome
from roundhouse_operator.core.status.accepted import find_accepted, find_engine_selected
from roundhouse_operator.core.status.available import find_available
from roundhouse_operator.core.status.conditions import Finding, first_failing, troubled
from roundhouse_operator.core.status.degraded import find_degraded, find_ownership
from roundhouse_operator.core.status.ready import find_ready
from roundhouse_operator.core.status.scene import build_scene
from roundhouse_operator.core.status.scheduled import find_scheduled
from roundhouse_operator.core.status.up_to_date import find_up_to_date
from roundhouse_operator.core.status.verified import find_verified, must_verify
from roundhouse_operator.core.status.weights import find_weights_ready


def variant_findings(
    world: World, decision: Decision, outcome: Outcome
) -> Mapping[ConditionType, Finding | None]:
    scene = build_scene(world, decision, outcome)
    accepted = find_accepted(scene)
    selected = find_engine_selected(scene)
    weights = find_weights_ready(scene)
    blocker = first_failing((accepted, selected, weights))
    scheduled = find_scheduled(scene, blocker)
    if blocker is None and decision.unplaced:
        blocker = troubled(decision.unplaced)
    available = find_available(scene, blocker)
    verified = find_verified(scene)
    gate = (verified,) if must_verify(scene) else ()
    return {
        ConditionType.READY: find_ready(scene, (accepted, selected, weights), scheduled, available, gate),
        ConditionType.ACCEPTED: accepted,
        ConditionType.ENGINE_SELECTED: selected,
        ConditionType.WEIGHTS_READY: weights,
        ConditionType.SCHEDULED: scheduled,
        ConditionType.AVAILABLE: available,
        ConditionType.VERIFIED: verified,
        ConditionType.UP_TO_DATE: find_up_to_date(scene, blocker),
        ConditionType.DEGRADED: find_degraded(scene, blocker),
        ConditionType.OWNERSHIP_CONFLICT: find_ownership(outcome),
    }
