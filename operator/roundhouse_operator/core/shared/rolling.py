"""How a change of a shared engine reaches its pods: those that serve one at a time, until one fails.

A pod that has no room, and served nobody when it was changed, tells nothing about the change, and nobody
waits for it. One that served and finds no room any more does: the next would fare like it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from roundhouse_api.model import Manifest
from roundhouse_api.names import ANNOTATION_REPLACED
from roundhouse_operator.core.kinds import DEPLOYMENT
from roundhouse_operator.core.plan import Apply
from roundhouse_operator.core.reports import Reports
from roundhouse_operator.core.shared.moves import settled
from roundhouse_operator.core.shared.replicas import Replica


@dataclass(frozen=True, slots=True)
class Rolling:
    """`waits_for`: the pods for whose sake others are not changed yet."""

    applies: tuple[Apply, ...]
    waits_for: Replica | None = None


def one_after_another(applies: Iterable[Apply], replicas: Mapping[str, Replica], reports: Reports) -> Rolling:
    """`replicas` by name of their Deployments."""
    applies = tuple(applies)
    changed = {apply.manifest["metadata"]["name"] for apply in applies if apply.kind == DEPLOYMENT}
    others = (one for name, one in replicas.items() if name not in changed and one.rollout)
    waits_for = next((one for one in others if not (_is_settled(one, reports) or _left_out(one))), None)
    taken, held_back, made = waits_for is not None, False, list[Apply]()
    for apply in applies:
        replica = replicas.get(apply.manifest["metadata"]["name"])
        if apply.kind != DEPLOYMENT or apply.new or replica is None:
            made.append(apply)
        elif not replica.labelled:
            made.append(replace(apply, manifest=with_mark(apply.manifest, replaced=False)))
        elif taken:
            held_back = True
        else:
            taken = True
            made.append(replace(apply, manifest=with_mark(apply.manifest, replaced=True)))
    return Rolling(tuple(made), waits_for if held_back else None)


def with_mark(deployment: Manifest, *, replaced: bool) -> Manifest:
    """With or without what says that its pod served when it was last changed."""
    metadata = {**deployment["metadata"]}
    annotations = {**(metadata.pop("annotations", None) or {})}
    annotations.pop(ANNOTATION_REPLACED, None)
    if replaced:
        annotations[ANNOTATION_REPLACED] = "true"
    return {**deployment, "metadata": {**metadata, **({"annotations": annotations} if annotations else {})}}


def _is_settled(replica: Replica, reports: Reports) -> bool:
    rollout = replica.rollout
    if (
        rollout is None
        or not rollout.current
        or not rollout.updated == rollout.replicas == rollout.ready == 1
    ):
        return False
    return bool(replica.pods) and all(settled(replica, reports))


def _left_out(replica: Replica) -> bool:
    """Whether it has no room, and had none before."""
    roomless = all(pod.unschedulable is not None and not pod.scheduled for pod in replica.pods)
    return bool(replica.pods) and roomless and not (replica.replaced or replica.labelled)
