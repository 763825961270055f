"""All nodes, and the surveys of them: each need is judged once for each node, and again for one that changed.

So a node that comes, goes or changes costs a verdict for each distinct need, however many engines and
variants share the need, and a pass that asks for a survey which is known costs a look-up.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.v1alpha1 import AllocationChosen
from roundhouse_operator.core.placement.devices import DeviceClass, DeviceSlice
from roundhouse_operator.core.placement.need import Need
from roundhouse_operator.core.placement.nodes import Node
from roundhouse_operator.core.placement.pools import EVERYWHERE, Pools
from roundhouse_operator.core.placement.supply import Stock, Supply
from roundhouse_operator.core.placement.verdict import Claimables, Verdict, judge, nearest

KNOWN_NEEDS: Final = 1024
"""Surveys that are kept; beyond them the one that was asked for longest ago is made anew."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Nodes counted under what speaks against them, with an example of each."""

    fitting: int
    rejected: tuple[tuple[Reason, int, str], ...]
    largest_mib: int | None = None
    """Memory of the largest device of the kind that is asked for, on whatever node."""
    fitting_mib: int | None = None
    """Memory of the largest of them on a node that fits."""
    too_small_mib: int | None = None
    """Memory of the largest that has too little."""
    most: int = 0
    """Devices of the node that has the most of them, and too few."""
    instead: tuple[str, ...] = ()
    """What nodes have in place of the GPU that is asked for."""
    unmet: tuple[tuple[str, int], ...] = ()
    """What keeps nodes out by the author's own rules, and how many; the most first."""
    room: tuple[tuple[str, int], ...] = ()
    """CPU, memory and storage of which nodes have too little, and the most that one of these has."""

    @property
    def obstacle(self) -> Reason:
        """Why no node fits: that of the nodes which came nearest."""
        return nearest(reason for reason, _, _ in self.rejected)


class _Tally:
    """The verdicts on all nodes for one need."""

    __slots__ = ("survey", "verdicts")

    def __init__(self) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self.survey: Survey | None = None

    def put(self, name: str, verdict: Verdict | None) -> bool:
        """None for a node that is gone. Returns whether that changes anything."""
        before = self.verdicts.pop(name, None)
        if verdict:
            self.verdicts[name] = verdict
        if before != verdict:
            self.survey = None
        return before != verdict

    def sum_up(self) -> Survey:
        if self.survey is None:
            rejected: dict[Reason, list[str]] = defaultdict(list)
            for name, verdict in self.verdicts.items():
                if verdict.obstacle:
                    rejected[verdict.obstacle].append(name)
            self.survey = Survey(
                fitting=len(self.verdicts) - sum(map(len, rejected.values())),
                rejected=tuple(
                    sorted((reason, len(names), min(names)) for reason, names in rejected.items())
                ),
                fitting_mib=max(
                    (one.memory_mib or 0 for one in self.verdicts.values() if not one.obstacle), default=0
                )
                or None,
                largest_mib=self._largest(),
                too_small_mib=self._largest(Reason.INSUFFICIENT_VRAM),
                most=max((one.offered for one in self.verdicts.values()), default=0),
                instead=tuple(sorted({name for one in self.verdicts.values() for name in one.instead})),
                unmet=self._unmet(),
                room=self._room(),
            )
        return self.survey

    def _unmet(self) -> tuple[tuple[str, int], ...]:
        counts = Counter(rule for one in self.verdicts.values() for rule in one.unmet)
        return tuple(sorted(counts.items(), key=lambda one: (-one[1], one[0])))

    def _room(self) -> tuple[tuple[str, int], ...]:
        most: dict[str, int] = {}
        for name, amount in (each for one in self.verdicts.values() for each in one.room):
            most[name] = max(amount, most.get(name, 0))
        return tuple(sorted(most.items()))

    def _largest(self, obstacle: Reason | None = None) -> int | None:
        """Of all nodes, or of those with that obstacle."""
        seen = (one for one in self.verdicts.values() if obstacle is None or one.obstacle is obstacle)
        return max((one.memory_mib or 0 for one in seen), default=0) or None


class Fleet:
    """Nodes and claimable devices by name. Answers depend on nothing but what was put in."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._pools = Pools()
        self._classes: dict[str, DeviceClass] = {}
        self._tallies: OrderedDict[Need, _Tally] = OrderedDict()
        self._forgot = False
        self._stock = Stock()
        self.claims_served = False
        """Whether the cluster serves resource.k8s.io/v1."""

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def supply(self) -> Supply:
        return self._stock.supply

    def survey(self, need: Need) -> Survey:
        tally = self._tallies.get(need)
        if tally is None:
            tally = self._tallies[need] = _Tally()
            for node in self._nodes.values():
                tally.put(node.name, self._judge(need, node))
            if len(self._tallies) > KNOWN_NEEDS:
                self._tallies.popitem(last=False)
                self._forgot = True
        self._tallies.move_to_end(need)
        return tally.sum_up()

    def verdicts(self, need: Need) -> Mapping[str, Verdict]:
        """On each node, by its name."""
        self.survey(need)
        return self._tallies[need].verdicts

    def fits(self, need: Need, name: str) -> bool:
        """Whether the node of that name takes such a pod while it is empty."""
        self.survey(need)
        verdict = self._tallies[need].verdicts.get(name)
        return verdict is not None and verdict.obstacle is None

    def put_node(self, name: str, node: Node | None) -> bool:
        """None for a node that is gone. Returns whether an answer may be another one now."""
        before = self._nodes.pop(name, None)
        if node:
            self._nodes[name] = node
        if before == node:
            return False
        stock_changed = self._stock.put(before, node)
        # Every tally has to be told, so no short cut at the first that changes.
        changed = [
            tally.put(name, self._judge(need, node) if node else None)
            for need, tally in self._tallies.items()
        ]
        return stock_changed or self._forgot or any(changed)

    def put_slice(self, name: str, part: DeviceSlice | None) -> bool:
        """Judges anew for the nodes that reach other devices now: those of the slice, and of older ones."""
        nodes = self._pools.put(name, part)
        if not nodes:
            return False
        return self._judge_claims(lambda _: True, self._nodes.keys() if EVERYWHERE in nodes else nodes)

    def put_class(self, name: str, admits: DeviceClass | None) -> bool:
        before = self._classes.pop(name, None)
        if admits:
            self._classes[name] = admits
        if before == admits:
            return False
        return self._judge_claims(lambda need: _class_of(need) == name, self._nodes.keys())

    def _judge_claims(self, concerns: Callable[[Need], bool], nodes: Iterable[str]) -> bool:
        changed = [
            tally.put(name, self._judge(need, self._nodes[name]))
            for need, tally in self._tallies.items()
            if need.allocation is AllocationChosen.DRA and concerns(need)
            for name in nodes
            if name in self._nodes
        ]
        return any(changed) or self._forgot

    def _judge(self, need: Need, node: Node) -> Verdict:
        if need.allocation is not AllocationChosen.DRA:
            return judge(need, node, _NOTHING)
        return judge(need, node, Claimables(self._classes.get(_class_of(need)), self._pools.at(node.name)))


def _class_of(need: Need) -> str:
    """Of devices that it claims."""
    allocation = need.stated.allocation
    return allocation.dra.device_class_name if allocation and allocation.dra else ""


_NOTHING: Final = Claimables(None, ())
