"""What the pods of a shared engine run on: which device, and how much memory a new pod has for variants.

On a GPU that is the memory of the largest that a pod could get, because that makes for the fewest pods; it is
written down with the pod, whose node must have as much. On the CPU it is the memory that the engine requests.
What was decided for a pod stands for as long as the pod is there, whatever nodes come and go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Device, EngineSpec, Hardware
from roundhouse_operator.core import placement
from roundhouse_operator.core.desired.shared import merge_replica
from roundhouse_operator.core.packing import Item
from roundhouse_operator.core.placement import Fleet, Need
from roundhouse_operator.core.shared.replicas import Replica

_COUNTS = ("nodesFitting", "nodesRejected")


@dataclass(frozen=True, slots=True)
class Room:
    """`new_mib` None: memory does not count, because nothing tells how much there is."""

    fleet: Fleet
    spec: EngineSpec
    need: Need
    """Of a pod for the least that the engine asks for."""
    new_mib: int | None
    prefer: Manifest | None
    """The placement of a pod that is there: new ones get the same device."""

    @property
    def on_gpu(self) -> bool:
        return self.need.device is Device.GPU

    def need_of(self, replica: Replica, mib: int | None) -> Need:
        """Of one pod: as it was decided, or anew where the engine asks for something else."""
        stated = placement.state(merge_replica(self.spec, mib if self.on_gpu else None).hardware)
        kept = placement.keep(stated, replica.placement) if replica.placement else None
        return kept or placement.place(stated, self.fleet, prefer=replica.placement or self.prefer)


def find_room(spec: EngineSpec, fleet: Fleet, replicas: Mapping[int, Replica], items: Iterable[Item]) -> Room:
    prefer = next((one.placement for one in replicas.values() if one.placement), None)
    hardware = merge_replica(spec, None).hardware
    need = placement.place(placement.state(hardware), fleet, prefer=prefer)
    if need.device is Device.CPU:
        return Room(fleet, spec, need, _requested_mib(hardware), prefer)
    survey = fleet.survey(need)
    # Where no node fits yet, the pod waits for one that is as large as the largest variant.
    wanted = max(need.memory_mib or 0, *(one.mib or 0 for one in items), 0) or None
    largest = survey.fitting_mib if survey.fitting else wanted
    return Room(fleet, spec, need, largest, prefer)


def placement_of(need: Need, fleet: Fleet) -> Manifest:
    """As it is written down: without counts, which change from day to day."""
    told = placement.as_status(need, fleet.survey(need))
    return {name: value for name, value in told.items() if name not in _COUNTS}


def _requested_mib(hardware: Hardware) -> int | None:
    needs = hardware.resources
    memory = needs and ((needs.requests or {}).get("memory") or (needs.limits or {}).get("memory"))
    return memory.mib if memory else None
