"""Everything that answers "why is this one not ready?", gathered for one variant.

Conditions are told as the operator wrote them; nodes and the choice of the engine are worked out anew, by
the operator's own core.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import SourceType
from roundhouse_operator.commands.picture import Picture
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.kinds import Key
from roundhouse_operator.core.masking import last_words
from roundhouse_operator.core.observed import Container, Invalid, Pod, World
from roundhouse_operator.core.preview import node_verdicts

EVENTS: Final = 5
PODS: Final = 8
"""Of whose logs the last line is read."""
_NOT_FOUND: Final = {
    SourceType.HTTP: "Mend `spec.source.http.url`: there is nothing at that address.",
    SourceType.S3: "Mend `bucket`, `prefix` or `endpointURL` of `spec.source.s3`.",
    SourceType.GCS: "Mend `bucket` or `prefix` of `spec.source.gcs`.",
    SourceType.OCI: "Mend `image` or `path` of `spec.source.oci`.",
    SourceType.PVC: "Mend `claimName` or `path` of `spec.source.pvc`.",
}
_ORDER: Final = {kind.value: place for place, kind in enumerate(ConditionType)}


async def describe(picture: Picture, key: Key) -> Manifest | None:
    """None where there is no such variant."""
    world = picture.cache.world(key)
    if world is None:
        return None
    decision, status = decide(world), world.variant.status
    ready = world.variant.condition(ConditionType.READY) or {}
    reason = ready.get("reason", Reason.PENDING.value)
    current = status.get("observedGeneration") == world.variant.generation
    told: Manifest = {
        "kind": key.kind.name,
        "namespace": key.namespace,
        "name": key.name,
        "ready": ready.get("status", "Unknown"),
        "reason": reason,
        "message": ready.get("message", "") if current else _unseen(bool(ready)),
        "next": _advice(Reason.PENDING.value if not current else reason, world),
        "conditions": _conditions(status),
        "names": {
            "published": list(status.get("publishedNames") or ()),
            "lost": {name: str(owner) for name, owner in sorted(decision.award.lost.items())},
        },
        "engine": _engine(decision),
        "nodes": _nodes(world, decision),
        "pods": await asyncio.gather(*(_pod(picture, pod) for pod in _worst_first(world)[:PODS])),
        "podsInAll": len(world.pods),
        "events": [_event(one) for one in await picture.events(key, EVENTS)],
    }
    if degraded := world.variant.condition(ConditionType.DEGRADED):
        told["degraded"] = {
            "reason": degraded["reason"],
            "message": degraded["message"],
            "next": _advice(degraded["reason"], world),
        }
    told |= {name: status[name] for name in ("weights", "rollout", "verification") if name in status}
    return told


def _unseen(before: bool) -> str:
    return (
        "The operator has not looked at the newest spec yet"
        if before
        else "The operator has not looked at it yet"
    )


def _advice(reason: str, world: World) -> str:
    """Where weights are not found, that depends on where they are looked for."""
    spec = world.variant.spec
    if reason == Reason.SOURCE_NOT_FOUND and not isinstance(spec, Invalid) and spec.source.type in _NOT_FOUND:
        return _NOT_FOUND[spec.source.type]
    try:
        return Reason(reason).advice
    except ValueError:
        return "This version does not know the reason: update the command, or read the message."


def _conditions(status: Manifest) -> list[Manifest]:
    told = sorted(status.get("conditions") or (), key=lambda one: _ORDER.get(one["type"], len(_ORDER)))
    return [{name: one[name] for name in ("type", "status", "reason", "message")} for one in told]


def _engine(decision: Decision) -> Manifest:
    choice = decision.choice
    if choice is None:
        return {}
    found: Manifest = {"name": choice.engine.name if choice.engine else "", "message": choice.message}
    candidates = [one.model_dump(by_alias=True, exclude_none=True, mode="json") for one in choice.candidates]
    return {**found, "candidates": candidates}


def _nodes(world: World, decision: Decision) -> list[Manifest]:
    if decision.intent is None:
        return []
    verdicts = node_verdicts(decision.intent.need, world.fleet)
    return [{"name": one.name, "verdict": one.verdict, "devices": one.devices} for one in verdicts]


def _worst_first(world: World) -> list[Pod]:
    return sorted(world.pods, key=lambda pod: (pod.ready, pod.name))


async def _pod(picture: Picture, pod: Pod) -> Manifest:
    worst = next((one for one in pod.containers if not one.ready), None)
    words = last_words(worst.exit_message) if worst and worst.exit_message else ""
    if worst and not words and pod.scheduled and not worst.waiting_reason:
        words = last_words(await picture.last_words(pod.name, worst.name))
    told: dict[str, Any] = {"name": pod.name, "state": _state(pod, worst), "ready": pod.ready}
    if worst and worst.restarts:
        told["restarts"] = worst.restarts
    if worst and worst.exit_code is not None:
        told["exitCode"] = worst.exit_code
    if words:
        told["lastWords"] = words
    return told


def _state(pod: Pod, worst: Container | None) -> str:
    if pod.ending:
        return "Ending"
    if pod.failure:
        return f"Failed: {last_words(pod.failure)}"
    if not pod.scheduled:
        return f"No node: {pod.unschedulable}" if pod.unschedulable else "No node yet"
    if pod.ready:
        return "Ready"
    if pod.containers_ready:
        return "Waits for its readiness gate"
    return (worst and worst.waiting_reason) or "Starting"


def _event(manifest: Manifest) -> Manifest:
    return {
        "time": str(manifest.get("eventTime") or "")[:19],
        "type": manifest.get("type", ""),
        "reason": manifest.get("reason", ""),
        "note": manifest.get("note", ""),
    }
