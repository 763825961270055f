"""How a change of a shared engine reaches its pods: those that serve one at a time, until one fails.

A pod that has no room, and served nobody when it was changed, tells nothing about the change, and nobody
waits for it. One that served and finds no room any more does: the next would fare like it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from roundhouse_api.model import Manifest
from roundhouse_api.names import ANNOTATION_REPLACED
from roundhouse_api.v1alpha1 import RolloutStrategy
from roundhouse_operator.core.kinds import DEPLOYMENT
from roundhouse_operator.core.observed import Child
from roundhouse_operator.core.placing import replaces_pods
from roundhouse_operator.core.plan import Apply, Plan
from roundhouse_operator.core.reports import Reports
from roundhouse_operator.core.rollout.strategy import Strategy
from roundhouse_operator.core.shared.moves import settled
from roundhouse_operator.core.shared.replacing import is_waiting, with_way
from roundhouse_operator.core.shared.replicas import Replica


@dataclass(frozen=True, slots=True)
class Rolling:
    """How far a change has come."""

    applies: tuple[Apply, ...]
    waits_for: Replica | None = None
    """The one that was changed last, while it is not well yet."""
    ahead: str = ""
    """Name of the one that is being changed, in this pass perhaps."""
    held_back: frozenset[str] = frozenset()
    """Names of those that wait until it is well."""
    recreates: bool = False
    """Whether a pod that serves gives up its GPU now."""


def one_after_another(
    plan: Plan,
    children: tuple[Child, ...],
    replicas: Mapping[str, Replica],
    reports: Reports,
    way: Callable[[Replica], Strategy],
) -> Rolling:
    """`replicas` by name of their Deployments; `way`: in which one that serves is to be replaced."""
    applies = plan.applies
    changed = {
        apply.manifest["metadata"]["name"]
        for apply in applies
        if apply.kind == DEPLOYMENT and (apply.new or replaces_pods(Plan(applies=(apply,)), children))
    }
    others = (one for name, one in replicas.items() if name not in changed and one.rollout)
    waits_for = next((one for one in others if not (_is_settled(one, reports) or is_waiting(one))), None)
    ahead = waits_for.name if waits_for else ""
    held_back, recreates, made = set[str](), False, list[Apply]()
    for apply in applies:
        name = apply.manifest["metadata"]["name"]
        replica = replicas.get(name)
        if apply.kind != DEPLOYMENT or apply.new or replica is None or name not in changed:
            made.append(apply)
        elif not replica.labelled:
            made.append(replace(apply, manifest=with_mark(apply.manifest, replaced=False)))
        elif ahead:
            held_back.add(name)
        else:
            ahead, chosen = name, way(replica)
            recreates = chosen.kind is RolloutStrategy.RECREATE
            manifest = with_way(with_mark(apply.manifest, replaced=True), chosen)
            made.append(replace(apply, manifest=manifest))
    return Rolling(tuple(made), waits_for, ahead, frozenset(held_back), recreates)


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
