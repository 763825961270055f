"""The variant's own children as they stand: not those of a variant that had its name before."""

from __future__ import annotations

from roundhouse_api.model import Manifest
from roundhouse_operator.core.admission import changes_of
from roundhouse_operator.core.fields import Path, has_leftovers
from roundhouse_operator.core.kinds import Kind
from roundhouse_operator.core.observed import Child, World


def child_of(world: World, kind: Kind) -> Child | None:
    """The variant's own child of its name."""
    variant = world.variant
    mine = (one for one in world.children if one.owner_uid == variant.uid and one.name == variant.name)
    return next((one for one in mine if one.kind == kind), None)


def template_changes(template: Manifest, live: Child) -> list[Path]:
    """Where the pod template of a Deployment differs from what is wanted, and a write may change it."""
    return changes_of({"spec": {"template": template}}, live)


def has_template(template: Manifest, live: Child) -> bool:
    """Whether a write of the template would replace no pods."""
    ours = live.ownership.ours.get("f:spec", {}).get("f:template", {})
    return not template_changes(template, live) and not has_leftovers(template, ours)
