"""Whether there is room for one more pod beside those that are there, and which of them would make some."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Final, Protocol

from roundhouse_operator.core.observed import Node, Pod, Rollout, Vacancy
from roundhouse_operator.core.placement import Fleet, Need
from roundhouse_operator.core.rollout.turn import old_pods

OVERDUE_SECONDS: Final = 120
"""So long after its time a pod that ends is waited for: a finalizer or a volume may hold it for ever."""
RETRY_SECONDS: Final = 15
"""So long the scheduler may let a pod wait that it found no room for, after another one has left some: its
longest pause between two tries is ten seconds."""
_FULL: Final = re.compile(r"\bInsufficient |cannot allocate all claims|Too many pods")
"""In the scheduler's words: what would be there if another pod went."""
_KEPT_OUT: Final = re.compile(
    r"anti-affinity rules|free ports for the requested|topology spread constraints(?! \(missing)"
    r"|exceed max volume count|ReadWriteOncePod access mode"
)
"""In its words as well: nothing lacks, and it is the old pods that keep a new one off their nodes."""


class Ground(Protocol):
    """Pods that are replaced together, and the nodes on which there could be more of them."""

    @property
    def pods(self) -> tuple[Pod, ...]: ...

    @property
    def rollout(self) -> Rollout | None: ...

    @property
    def fleet(self) -> Fleet: ...

    @property
    def taken(self) -> Mapping[str, Mapping[str, int]]:
        """Devices that pods have, by node and resource."""

    @property
    def vacancy(self) -> Vacancy | None: ...

    @property
    def now(self) -> int: ...


def has_room(world: Ground, need: Need, wanted: int, *, among: frozenset[str] = frozenset()) -> bool:
    """Whether nodes, or those `among` them that alone can have the weights, have room for one more.

    Only pods that carry our labels are known, so this may be wrong; the scheduler knows better.
    """
    there = sum(bool(pod.node) and not pod.failure for pod in world.pods)
    missing = max(wanted - there, 0) + 1
    for node in world.fleet:
        if among and node.name not in among:
            continue
        missing -= _room(world, need, node)
        if missing <= 0:
            return True
    return False


def _room(world: Ground, need: Need, node: Node) -> int:
    """How many more pods the node's devices suffice for."""
    free = _free(world, need, node)
    if need.resource is None or free < need.count:
        return 0
    return free // need.count if world.fleet.fits(need, node.name) else 0


def _free(world: Ground, need: Need, node: Node) -> int:
    resource = need.resource or ""
    return max(node.devices.get(resource, 0) - world.taken.get(node.name, {}).get(resource, 0), 0)


def is_stuck(world: Ground, need: Need) -> bool:
    """New pods find no room and none is about to come; an old one that goes would make some."""
    rollout = world.rollout
    if rollout is None or not rollout.current or not rollout.updated or not old_pods(rollout):
        return False
    if not _refused(world, _FULL) and not _refused(world, _KEPT_OUT):
        return False
    if room_makers(world, need) or (_retry_seconds(world) and _is_left_to(world, need)):
        return False
    return any(made_free(world, need))


def _refused(world: Ground, words: re.Pattern[str]) -> bool:
    return any(words.search(pod.unschedulable or "") for pod in _roomless(world))


def is_only_kept_out(world: Ground) -> bool:
    return _refused(world, _KEPT_OUT) and not _refused(world, _FULL)


def made_free(world: Ground, need: Need) -> Iterator[int]:
    """For each node with old pods whose end would let a new pod in: how many of them must end."""
    by_node: dict[str, list[Pod]] = {}
    waiting = {pod.template for pod in _roomless(world)}
    for pod in world.pods:
        if pod.node and not pod.failure and not pod.ending and pod.template not in waiting:
            by_node.setdefault(pod.node, []).append(pod)
    for node in world.fleet if by_node else ():
        there = by_node.get(node.name)
        if there and world.fleet.fits(need, node.name) and (count := _enough(world, need, node, there)):
            yield count


def room_makers(world: Ground, need: Need) -> list[str]:
    """Pods that are ending and let a new one in: until they are gone, the scheduler counts their devices."""
    ending: dict[str, list[Pod]] = {}
    for pod in _ending(world):
        ending.setdefault(pod.node, []).append(pod)
    return sorted(
        pod.name
        for node in (world.fleet if ending else ())
        if node.name in ending and not node.lost and world.fleet.fits(need, node.name)
        if _enough(world, need, node, ending[node.name])
        for pod in _holders(world, need, node, ending[node.name])
    )


def _holders(world: Ground, need: Need, node: Node, there: list[Pod]) -> list[Pod]:
    """Of pods on a node, those that have what lacks there."""
    if need.resource is None or _free(world, need, node) >= need.count:
        return there
    return [pod for pod in there if dict(pod.devices).get(need.resource)]


def _is_left_to(world: Ground, need: Need) -> bool:
    """Whether the last pod that went has left enough, as far as that is counted here."""
    if world.vacancy is None or not world.fleet.fits(need, world.vacancy.node):
        return False
    there = [node for node in world.fleet if node.name == world.vacancy.node]
    return need.resource is None or any(_free(world, need, node) >= need.count for node in there)


def _retry_seconds(world: Ground) -> int:
    """For how long the scheduler may not have looked at the room that the last pod left; 0: it has."""
    since = world.vacancy.since if world.vacancy else 0
    return since + RETRY_SECONDS - world.now if since <= world.now < since + RETRY_SECONDS else 0


def overdue_seconds(world: Ground) -> int | None:
    """Until what is waited for is waited for no longer; None where nobody waits."""
    left = [pod.ends_at + OVERDUE_SECONDS - world.now for pod in _ending(world) if pod.ends_at]
    if retry := _retry_seconds(world):
        left.append(retry)
    return max(min(left), 1) if left and _roomless(world) else None


def _ending(world: Ground) -> list[Pod]:
    return [
        pod
        for pod in world.pods
        if pod.node and pod.ending and not pod.failure
        if not pod.ends_at or world.now < pod.ends_at + OVERDUE_SECONDS
    ]


def _enough(world: Ground, need: Need, node: Node, there: list[Pod]) -> int:
    """How many of the pods on a node must be gone for one new pod; 0 where all of them are too few."""
    if need.resource is None:
        return 1
    lacking = need.count - _free(world, need, node)
    each = max(dict(pod.devices).get(need.resource, 0) for pod in there)
    if lacking <= 0:
        return 1
    return ceil(lacking / each) if each and ceil(lacking / each) <= len(there) else 0


def _roomless(world: Ground) -> list[Pod]:
    return [
        pod for pod in world.pods if pod.unschedulable is not None and not pod.scheduled and not pod.ending
    ]
