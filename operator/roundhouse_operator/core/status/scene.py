"""A pass as the conditions look at it: what several of them ask about, worked out once.

What each condition makes of it is in the module of its name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.v1alpha1 import ModelVariantSpec
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.diagnose import Trouble, diagnose
from roundhouse_operator.core.kinds import DEPLOYMENT, SERVICE
from roundhouse_operator.core.observed import Invalid, World
from roundhouse_operator.core.outcome import Outcome
from roundhouse_operator.core.own import child_of
from roundhouse_operator.core.placing import explained, replaces_pods
from roundhouse_operator.core.scaling import is_demand
from roundhouse_operator.core.seat import Seat
from roundhouse_operator.core.selection import unloadable
from roundhouse_operator.core.startup import startup_of
from roundhouse_operator.core.status.conditions import Finding, unknown
from roundhouse_operator.core.weights.mounting import Mounting, look_at_mounts

_BY_FORMAT: Final = frozenset({Reason.CRASH_LOOP, Reason.START_TIMEOUT})


@dataclass(frozen=True, slots=True)
class Scene:
    """A pass, with what several conditions ask about worked out once."""

    world: World
    decision: Decision
    outcome: Outcome
    spec: ModelVariantSpec | None
    upstream: bool
    wanted: int
    ready: int
    trouble: Trouble | None
    astray: str | None = None
    """Why no request reaches pods of its own, however ready they are."""

    @property
    def suspended(self) -> bool:
        return self.spec is not None and self.spec.suspend

    @property
    def demand(self) -> bool:
        """Requests wake it."""
        return self.decision.merged is not None and is_demand(self.decision.merged.scaling)

    @property
    def frozen(self) -> bool:
        """Pods run, or are being made, that nothing can be changed about for now."""
        rollout, seat = self.world.rollout, self.world.seat
        if seat and seat.placed:
            return True
        return rollout is not None and bool(rollout.replicas or rollout.wanted)


def build_scene(world: World, decision: Decision, outcome: Outcome) -> Scene:
    spec = None if isinstance(world.variant.spec, Invalid) else world.variant.spec
    rollout, intent, engine = world.rollout, decision.intent, decision.engine
    if rollout is None and world.seat:
        return _shared_scene(world, decision, outcome, spec, world.seat)
    return Scene(
        world=world,
        decision=decision,
        outcome=outcome,
        spec=spec,
        upstream=engine is not None and engine.upstream is not None,
        wanted=intent.replicas if intent else rollout.wanted if rollout else 0,
        ready=(rollout.ready if rollout else 0) or world.lodged,
        trouble=_trouble(world, decision, outcome),
        astray=None if decision.shares or decision.leaving or world.lodged else _astray(world),
    )


def _shared_scene(
    world: World, decision: Decision, outcome: Outcome, spec: ModelVariantSpec | None, seat: Seat
) -> Scene:
    """Copies in the engine's pods stand for pods of its own."""
    return Scene(
        world=world,
        decision=decision,
        outcome=outcome,
        spec=spec,
        upstream=False,
        wanted=seat.wanted,
        ready=seat.ready or world.lodged,
        trouble=seat.trouble,
    )


def _astray(world: World) -> str | None:
    """What the Service asks of pods besides what the Deployment gives them."""
    deployment, service = child_of(world, DEPLOYMENT), child_of(world, SERVICE)
    if deployment is None:
        return None
    if service is None:
        return "there is no Service that leads to them"
    selector = service.live["spec"].get("selector") or {}
    labels = deployment.live["spec"]["template"]["metadata"].get("labels") or {}
    missing = ", ".join(
        f"{name}={value}" for name, value in sorted(selector.items()) if labels.get(name) != value
    )
    if selector and not missing:
        return None
    asks = f"asks for pods with {missing}" if missing else "selects no pods"
    return f"Service {service.name!r} {asks}, so that it leads to none of them"


def _trouble(world: World, decision: Decision, outcome: Outcome) -> Trouble | None:
    survey, engine, weights = decision.survey, decision.engine, decision.weights
    if weights and weights.failing and weights.ready:
        return Trouble(weights.reason, weights.message, weights.detail)  # of the pods' own loaders
    need = decision.intent.need if decision.intent else None
    found = diagnose(
        world.rollout,
        world.pods,
        resource=need.resource if need else None,
        startup=startup_of(engine.probes if engine else None),
    )
    written = not (outcome.refusal or outcome.failure)
    if found and written and replaces_pods(decision.plan, world.children):
        found = None  # it is of pods that go: what is asked for now has not been tried
    mounting = look_at_mounts(world, decision.intent.delivery) if decision.intent else Mounting()
    if mounting.trouble and (found is None or found.reason is Reason.START_TIMEOUT):
        return mounting.trouble
    exam = decision.exam
    if exam and exam.required and exam.failing and (found is None or found.reason is Reason.START_TIMEOUT):
        # The pods wait for their gate, which their containers and their Deployment know nothing of.
        return exam.failing
    if found and found.reason in _BY_FORMAT and (words := _wrong_format(world, decision)):
        return replace(found, message=f"{found.message}; {words[:1].lower()}{words[1:]}")
    return explained(found, need, survey) if found and need and survey else found


def _wrong_format(world: World, decision: Decision) -> str | None:
    """What may well be why it does not start: else it is told of what serves nevertheless."""
    spec, engine = world.variant.spec, decision.engine
    return None if isinstance(spec, Invalid) or engine is None else unloadable(spec, engine)


def not_written(scene: Scene) -> Finding:
    return unknown(Reason.PENDING, f"Nothing was started yet, and it is tried again: {scene.outcome.failure}")
