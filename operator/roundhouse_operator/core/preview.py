"""What a decision would change, for people: fields of children, and a verdict on each node.

Works on the very plan that the operator would carry out, so that what is shown is what would happen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import RolloutTurn
from roundhouse_operator.core.fields import differences, value_at, written
from roundhouse_operator.core.masking import masked
from roundhouse_operator.core.observed import Line, World
from roundhouse_operator.core.placement import Fleet, Need, Node
from roundhouse_operator.core.placement.nodes import AMD_PRODUCT_LABEL, PRODUCT_LABEL
from roundhouse_operator.core.placement.verdict import Verdict
from roundhouse_operator.core.plan import Plan

VALUE_LENGTH: Final = 100
FITS: Final = "Fits"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field by its path, with its value before and after as JSON; empty where there is none."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ChildChange:
    """`verb` is create, change or delete."""

    verb: str
    child: str
    fields: tuple[FieldChange, ...] = ()

    @property
    def replaces_pods(self) -> bool:
        """Whether pods of before give way to others."""
        return self.verb == "change" and any(one.path.startswith(".spec.template.") for one in self.fields)


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """Whether a pod could be on the node, and what the node has."""

    name: str
    verdict: str
    devices: str


def child_changes(world: World, plan: Plan) -> tuple[ChildChange, ...]:
    live = {(one.kind, one.name): one for one in world.children}
    changes: list[ChildChange] = []
    for apply in plan.applies:
        name = apply.manifest["metadata"]["name"]
        child = live.get((apply.kind, name))
        if child is None:
            changes.append(ChildChange("create", f"{apply.kind} {name}"))
            continue
        fields = field_changes(apply.manifest, child.live, child.ownership.ours)
        changes.append(ChildChange("change", f"{apply.kind} {name}", fields))
    changes += [ChildChange("delete", f"{one.kind} {one.name}") for one in plan.deletes]
    return tuple(changes)


def field_changes(wanted: Manifest, live: Manifest, ours: Any) -> tuple[FieldChange, ...]:  # noqa: ANN401
    return tuple(
        FieldChange(written(path), _shown(value_at(live, path)), _shown(value_at(wanted, path)))
        for path in differences(wanted, live, ours)
    )


def spec_changes(before: Manifest, after: Manifest, path: str = ".spec") -> Iterator[FieldChange]:
    """Members that differ between two specs; a list is one value."""
    for name in sorted(before.keys() | after.keys()):
        old, new, where = before.get(name), after.get(name), f"{path}.{name}"
        if isinstance(old, dict) and isinstance(new, dict):
            yield from spec_changes(old, new, where)
        elif old != new:
            yield FieldChange(where, _shown(old), _shown(new))


def at_its_turn(world: World) -> World:
    """The same world at the moment in which a change of the engine reaches the variant."""
    told = {**(world.variant.status.get("rollout") or {}), "turn": RolloutTurn.WAITING.value}
    status = {**world.variant.status, "rollout": told}
    return replace(world, variant=replace(world.variant, status=status), line=Line(first=True))


def node_verdicts(need: Need, fleet: Fleet) -> tuple[NodeVerdict, ...]:
    """One for each node, by name."""
    verdicts = fleet.verdicts(need)
    return tuple(
        NodeVerdict(node.name, verdict.obstacle.value if verdict.obstacle else FITS, _devices(node, verdict))
        for node in sorted(fleet, key=lambda one: one.name)
        if (verdict := verdicts.get(node.name))
    )


def _devices(node: Node, verdict: Verdict) -> str:
    offered = [f"{count} × {name}" for name, count in sorted(node.devices.items()) if count]
    product = node.labels.get(PRODUCT_LABEL) or node.labels.get(AMD_PRODUCT_LABEL, "")
    memory = f"{verdict.memory_mib} MiB" if verdict.memory_mib else ""
    return ", ".join(filter(None, (*offered, product, memory)))


def _shown(value: object) -> str:
    """As JSON, without what looks like a secret, cut; empty for nothing."""
    if value is None:
        return ""
    text = masked(json.dumps(value, ensure_ascii=False, sort_keys=True))
    return text if len(text) <= VALUE_LENGTH else f"{text[: VALUE_LENGTH - 1]}…"
