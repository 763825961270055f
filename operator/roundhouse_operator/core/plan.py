"""From what there is and what is wanted to what must be written: as little as possible.

A child is applied when one of its fields differs or when we own a field that is no longer wanted; a field
that somebody else holds with another value is left out and reported. What a person changed by hand is
taken back, because nobody is going to keep it there. `plan` of what was just applied is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roundhouse_api.model import Manifest
from roundhouse_api.names import ANNOTATION_ADOPT
from roundhouse_operator.core.additions import added_by_hand, removal
from roundhouse_operator.core.admission import ADMISSION, left_to_admission
from roundhouse_operator.core.fields import Path, differences, has_leftovers, value_at, without, written
from roundhouse_operator.core.kinds import CHILD_KINDS, DEPLOYMENT, SERVICE, Kind
from roundhouse_operator.core.observed import Child
from roundhouse_operator.core.outcome import Conflict


@dataclass(frozen=True, slots=True)
class Apply:
    """`force` takes fields over that a person edited, or that we were told to adopt; never a controller's.

    `new`: nothing of that name carries our labels, so what is there nevertheless is somebody else's.
    """

    kind: Kind
    manifest: Manifest
    force: bool
    new: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    kind: Kind
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Removal:
    """Fields of a child that a person added: a JSON patch."""

    kind: Kind
    namespace: str
    name: str
    patch: list[Manifest]


@dataclass(frozen=True, slots=True)
class Mark:
    """Annotations that are to stand on an object beside those of others; None takes one away."""

    kind: Kind
    namespace: str
    name: str
    annotations: Mapping[str, str | None]
    uid: str = ""
    """Empty: whichever object has the name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Writes in the order in which they are to be made, and the fields that others hold against us."""

    removals: tuple[Removal, ...] = ()
    applies: tuple[Apply, ...] = ()
    deletes: tuple[Delete, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    marks: tuple[Mark, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.removals or self.applies or self.deletes or self.marks)


NOTHING = Plan()


def plan_children(
    wanted: Iterable[Manifest],
    there: Iterable[Child],
    *,
    namespace: str,
    owner_uid: str,
    kept_back: Iterable[Manifest] = (),
) -> Plan:
    """Children that are no longer wanted go, if the resource with `owner_uid` owns them.

    `kept_back` are children as they would be if they did not stay as they are.
    """
    kinds = {kind.name: kind for kind in CHILD_KINDS}
    observed = {(child.kind.name, child.name): child for child in there}
    later = {(one["kind"], one["metadata"]["name"]): one for one in kept_back}
    removals: list[Removal] = []
    applies: list[Apply] = []
    conflicts: list[Conflict] = []
    for manifest in wanted:
        name = manifest["metadata"]["name"]
        child = observed.pop((manifest["kind"], name), None)
        if child is None:
            applies.append(Apply(kinds[manifest["kind"]], manifest, force=False, new=True))
            continue
        whole = later.get((manifest["kind"], name))
        added, edited = _by_hand(manifest, child, whole)
        if added:
            removals.append(Removal(child.kind, namespace, name, removal(child.live, added)))
        apply, against = _repair(manifest, child)
        if whole is not None:
            # What others hold is told as long as they hold it, though nothing is to be changed just now.
            against = [*_repair(whole, child)[1], *edited]
        conflicts += against
        applies += [apply] if apply else []
    deletes = [
        Delete(child.kind, namespace, child.name, child.uid)
        for child in observed.values()
        if child.owner_uid == owner_uid
    ]
    return Plan(
        tuple(removals),
        tuple(_in_order(applies)),
        tuple(deletes),
        tuple(sorted(conflicts, key=lambda one: (one.child, one.path))),
    )


def _in_order(applies: list[Apply]) -> list[Apply]:
    """Before its first pod a variant needs its Service: where the name is taken, none holds a GPU in vain.

    Later the Service is the last, because it says which of the author's wishes were carried out.
    """
    if any(one.new and one.kind == DEPLOYMENT for one in applies):
        return sorted(applies, key=lambda one: one.kind != SERVICE)
    return applies


def _by_hand(manifest: Manifest, child: Child, later: Manifest | None) -> tuple[list[Path], list[Conflict]]:
    """What a person added and what they changed of fields that are kept back, which is told and stays.

    Such a field was ours until then, and to take it away would start pods that lack it. What it was nobody
    knows any more: it is set when the child is no longer kept as it is.
    """
    if later is None:
        return added_by_hand(manifest, child.live, child.ownership), []
    added = added_by_hand(later, child.live, child.ownership)
    changed = added_by_hand(manifest, child.live, child.ownership)
    return (
        [path for path in added if value_at(manifest, path) is None],
        [_conflict(child, path) for path in changed if value_at(later, path) is not None],
    )


def _conflict(child: Child, path: Path) -> Conflict:
    managers = sorted({one.manager for one in child.ownership.holders(path)})
    return Conflict(f"{child.kind} {child.name}", written(path), ", ".join(managers))


def _repair(manifest: Manifest, child: Child) -> tuple[Apply | None, list[Conflict]]:
    differing = differences(manifest, child.live, child.ownership.ours)
    adopt = ANNOTATION_ADOPT in (child.live["metadata"].get("annotations") or {})
    held: list[Path] = []
    conflicts: list[Conflict] = []
    force = adopt
    vain = left_to_admission(manifest, child) & set(differing) if differing else frozenset[Path]()
    conflicts += (Conflict(f"{child.kind} {child.name}", written(path), ADMISSION) for path in vain)
    for path in differing:
        if path in vain:
            continue  # it stays in the manifest, or we would give the field up
        holders = list(child.ownership.holders(path))
        controllers = sorted({holder.manager for holder in holders if not holder.by_hand})
        if controllers and not adopt:
            held.append(path)
            conflicts.append(Conflict(f"{child.kind} {child.name}", written(path), ", ".join(controllers)))
        elif holders:
            force = True
    reduced = without(manifest, held) if held else manifest
    if len(differing) == len(held) + len(vain) and not has_leftovers(reduced, child.ownership.ours):
        return None, conflicts
    return Apply(child.kind, reduced, force=force), conflicts
