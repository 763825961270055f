"""What is to stand on the pods themselves, because a template that carried it would replace them.

Labels say whose requests a pod gets, an annotation which list of models it is to have read, and a gate opens
when it may count as ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from roundhouse_api import names
from roundhouse_operator.core.observed import Pod
from roundhouse_operator.core.shared.moves import FAILED, READY, Moves, Step, state
from roundhouse_operator.core.shared.replicas import Replica
from roundhouse_operator.core.shared.world import EngineWorld, answers


@dataclass(frozen=True, slots=True)
class PodPatch:
    """What is to stand on one pod: labels (None takes one away), annotations, and whether its gate opens."""

    name: str
    uid: str
    labels: Mapping[str, str | None] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    loaded: bool = False


def pod_patches(world: EngineWorld, moves: Moves, steps: Iterable[Step]) -> Iterator[PodPatch]:
    for step in steps:
        for pod in step.replica.pods:
            if patch := _patch(world, moves, step, pod):
                yield patch


def _patch(world: EngineWorld, moves: Moves, step: Step, pod: Pod) -> PodPatch | None:
    assert pod.share  # noqa: S101  # else it is no pod of a replica
    report = world.report(pod)
    serves = moves.serves(pod, step.replica, report)
    labels: dict[str, str | None] = {
        f"{names.LABEL_SERVES}{name}": "true" if name in serves else None
        for name in sorted(serves ^ pod.share.serves)
    }
    late = report is not None and report.generation != step.generation != pod.share.generation
    annotations = {names.ANNOTATION_MODELS_GENERATION: str(step.generation)} if late else {}
    loaded = not pod.share.loaded and answers(pod) and _may_count(world, step.replica, pod)
    if not (labels or annotations or loaded):
        return None
    return PodPatch(pod.name, pod.share.uid, labels, annotations, loaded)


def _may_count(world: EngineWorld, replica: Replica, pod: Pod) -> bool:
    """A pod that is to take another's place waits until it serves all that it can."""
    others = [one for one in replica.pods if one is not pod and one.ready and one.share and one.share.serves]
    if not others:
        return True
    report = world.report(pod)
    if report is None or report.generation < replica.generation or pod.share is None:
        return False
    states = {name: state(report, entry) for name, entry in replica.entries.items()}
    return all(
        told == FAILED or (told == READY and name in pod.share.serves) for name, told in states.items()
    )
