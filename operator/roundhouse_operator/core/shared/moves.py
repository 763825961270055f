"""The next step of each pod towards what it is to hold, so that nothing that is served is dropped on the way.

A variant that moves is loaded in its new place first. When it serves there, its requests are taken away from
the old place, by a label; when that is seen to be gone, it leaves the list, and the engine unloads it after
the last request. Each step is taken from what is there, so an operator that comes later goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from roundhouse_api.model import Manifest
from roundhouse_operator.core.observed import Pod
from roundhouse_operator.core.packing import Packing
from roundhouse_operator.core.reports import EngineReport
from roundhouse_operator.core.shared.members import Member
from roundhouse_operator.core.shared.replicas import Replica
from roundhouse_operator.core.shared.world import answers

READY = "ready"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """What one pod is told next."""

    replica: Replica
    target: frozenset[str]
    mib: int | None
    entries: Mapping[str, Manifest]
    generation: int


@dataclass(frozen=True, slots=True)
class Moves:
    """Everything that is decided, with what is there: enough to say the next step of each pod."""

    members: Mapping[str, Member]
    replicas: Mapping[int, Replica]
    packing: Packing
    most: int | None

    def step(self, index: int) -> Step:
        replica = self.replicas.get(index) or Replica(index, "")
        target = self.target(index)
        mib = self.packing.mib.get(index, replica.mib)
        entries = self._entries(replica, target, mib)
        changed = entries != replica.entries or not replica.generation
        return Step(replica, target, mib, entries, replica.generation + 1 if changed else replica.generation)

    def target(self, index: int) -> frozenset[str]:
        return self.packing.bins.get(index, frozenset())

    def places(self, variant: str) -> list[Replica]:
        """Where it is to be, of the pods that there are."""
        return [one for index, one in self.replicas.items() if variant in self.target(index)]

    def serves(self, pod: Pod, replica: Replica, report: EngineReport | None) -> frozenset[str]:
        """Variants whose requests the pod is to get. A pod that says nothing keeps what it has."""
        assert pod.share is not None  # noqa: S101  # else it is no pod of a replica
        if not answers(pod):
            return frozenset()
        if report is None:
            able = pod.share.serves & replica.entries.keys()
        else:
            able = frozenset(
                name for name in replica.entries if state(report, replica.entries[name]) == READY
            )
        return frozenset(name for name in able if not self._withdrawn(name, replica))

    def _entries(self, replica: Replica, target: frozenset[str], mib: int | None) -> dict[str, Manifest]:
        kept = {
            name: entry
            for name, entry in replica.entries.items()
            if name in target or name in replica.labelled or not self._withdrawn(name, replica)
        }
        for name in kept:
            if name in target and (entry := self.members[name].entry):
                kept[name] = entry
        for name in sorted(target - kept.keys()):
            entry = self.members[name].entry
            if entry and self._room(kept, name, entry, mib):
                kept[name] = entry
        return kept

    def _withdrawn(self, variant: str, replica: Replica) -> bool:
        """Whether its requests are to go elsewhere, or nowhere: it has left, or serves where it is to be."""
        if variant in self.target(replica.index):
            return False
        member = self.members.get(variant)
        if member is None or not any(variant in held for held in self.packing.bins.values()):
            return variant not in self.packing.unplaced
        places = self.places(variant)
        wanted = sum(variant in held for held in self.packing.bins.values())
        return sum(one.serves(variant) for one in places) >= wanted

    def _room(self, kept: Mapping[str, Manifest], name: str, entry: Manifest, mib: int | None) -> bool:
        """Beside what is still to leave."""
        if any(one["name"] == entry["name"] for one in kept.values()):
            return False
        if self.most is not None and len(kept) >= self.most:
            return False
        if mib is None or not kept:
            return True
        needs = [self.members[each].mib if each in self.members else None for each in (*kept, name)]
        return all(need is not None for need in needs) and sum(need or 0 for need in needs) <= mib


def state(report: EngineReport, entry: Manifest) -> str:
    model = report.models.get(entry["name"])
    return model.state if model else ""


def settled(replica: Replica, reports: Mapping[str, EngineReport]) -> Iterator[bool]:
    """For each pod, whether all that it is to hold is loaded, or cannot be."""
    for pod in replica.pods:
        report = reports.get(pod.name)
        yield (
            report is not None
            and report.generation >= replica.generation
            and all(state(report, entry) in (READY, FAILED) for entry in replica.entries.values())
        )
