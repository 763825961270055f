"""What the pass over a Shared or Exclusive engine looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from roundhouse_api import names
from roundhouse_operator.core.kinds import CONFIG_MAP
from roundhouse_operator.core.observed import Child, Engine, Pod, Rollout, Vacancy, World
from roundhouse_operator.core.placement import Fleet
from roundhouse_operator.core.reports import EngineReport, Reports
from roundhouse_operator.core.weights.asked import Answers


@dataclass(frozen=True, slots=True)
class EngineWorld:
    """All that concerns one such engine, at one moment."""

    engine: Engine
    variants: tuple[World, ...] = ()
    """Those that name the engine, chose it in their last pass, have it, or are still served by it."""
    children: tuple[Child, ...] = ()
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    """By name of the Deployment."""
    pods: tuple[Pod, ...] = ()
    fleet: Fleet = field(default_factory=Fleet)
    reports: Reports = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    """Pods that were asked for a report since they answer, whether or not they gave one."""
    in_use: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Devices that pods of ours have, by node and resource."""
    vacancy: Vacancy | None = None
    """What the last of its pods left."""
    taken: Callable[[int], bool] = lambda _: False
    """Whether no pod may have a number, because a variant has the name that would follow from it."""

    now: int = 0
    """Seconds since the epoch."""
    answers: Answers = field(default_factory=dict)
    """What was found of objects that nobody watches."""

    def report(self, pod: Pod) -> EngineReport | None:
        return self.reports.get(pod.name)


def decided_for(child: Child) -> list[str]:
    """Variants that a pod was decided to hold, as its list of models says; none of another child."""
    if child.kind != CONFIG_MAP:
        return []
    annotations = child.live["metadata"].get("annotations") or {}
    return str(annotations.get(names.ANNOTATION_VARIANTS, "")).split()


def serves(pod: Pod, variant: str) -> bool:
    """Whether it gets the variant's requests."""
    return pod.share is not None and variant in pod.share.serves


def answers(pod: Pod) -> bool:
    """Whether its engine runs: a gate may keep the pod as a whole from being ready."""
    return pod.ready or (bool(pod.containers) and all(one.ready for one in pod.containers))
