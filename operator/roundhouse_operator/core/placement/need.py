"""What a pod needs of a node: what the specs state, and what was made of it.

`Stated` follows from engine and variant alone. `Need` is a decision: with the resource that is requested and
the terms that a node's labels must meet. It is a value, so that needs which are the same are surveyed once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest, Model
from roundhouse_api.quantity import Quantity
from roundhouse_api.v1alpha1 import (
    Allocation,
    AllocationChosen,
    Device,
    GPUMode,
    Hardware,
    Toleration,
)

_REVISION_LENGTH: Final = 8
_MILLI: Final = 1000


@dataclass(frozen=True, slots=True)
class Expression:
    """As `matchExpressions` of core/v1 hold them."""

    key: str
    operator: str
    values: tuple[str, ...]

    def manifest(self) -> Manifest:
        return {"key": self.key, "operator": self.operator, "values": list(self.values)}


Term = tuple[Expression, ...]
"""Expressions that hold together."""


@dataclass(frozen=True, slots=True)
class Stated:
    """What engine and variant say of a pod's hardware."""

    mode: GPUMode
    count: int
    memory: Quantity | None
    products: tuple[str, ...]
    allocation: Allocation | None
    node_selector: tuple[tuple[str, str], ...]
    tolerations: tuple[Toleration, ...]
    affinity: str
    """The author's, as JSON: a node must meet it, whatever else it meets."""
    requests: tuple[tuple[str, int], ...]
    """CPU in thousandths of a core, memory and ephemeral storage in bytes."""

    @property
    def revision(self) -> str:
        """Changes with whatever may change where pods can run, and with nothing else.

        So what is not said is left out: a field that a later release adds changes the revision of nobody.
        """
        said = {
            "mode": self.mode.value,
            "count": self.count,
            "memory": self.memory.bytes if self.memory else None,
            "products": list(self.products),
            "allocation": _said(self.allocation) if self.allocation else None,
            "nodeSelector": dict(self.node_selector),
            "tolerations": [_said(one) for one in self.tolerations],
            "affinity": self.affinity,
            "requests": dict(self.requests),
        }
        text = json.dumps({name: value for name, value in said.items() if value}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_REVISION_LENGTH]


@dataclass(frozen=True, slots=True)
class Unplaceable:
    """Why no pod can even be described."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Need:
    """What one pod needs of a node, as it was decided."""

    stated: Stated
    allocation: AllocationChosen | None = None
    """None: it runs on the CPU."""
    resource: str | None = None
    """The extended resource; None on the CPU and where devices are claimed."""
    memory_mib: int | None = None
    """Of each device."""
    terms: tuple[Term, ...] = ()
    """A node's labels must meet one of them; none: any node will do."""
    unplaceable: Unplaceable | None = None

    @property
    def device(self) -> Device:
        return Device.GPU if self.allocation else Device.CPU

    @property
    def claims(self) -> bool:
        """Whether its devices are claimed, rather than counted as a resource."""
        return self.allocation is AllocationChosen.DRA

    @property
    def count(self) -> int:
        return self.stated.count


def _said(model: Model) -> Manifest:
    return model.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")


def state(hardware: Hardware) -> Stated:
    gpu = hardware.gpu
    mode = gpu.mode if gpu and gpu.mode else GPUMode.NONE
    wanted = gpu if mode is not GPUMode.NONE else None
    needs = hardware.resources
    # As the API server does: what is limited and not requested is requested at its limit.
    amounts = {**((needs and needs.limits) or {}), **((needs and needs.requests) or {})}
    return Stated(
        mode=mode,
        count=(wanted and wanted.count) or 1,
        memory=wanted.min_memory if wanted else None,
        products=tuple(sorted(wanted.products or ())) if wanted else (),
        allocation=wanted.allocation if wanted else None,
        node_selector=tuple(sorted((hardware.node_selector or {}).items())),
        tolerations=hardware.tolerations or (),
        affinity=json.dumps(hardware.affinity, sort_keys=True) if hardware.affinity else "",
        requests=tuple((name, amount_of(name, amounts[name])) for name in sorted(amounts)),
    )


def amount_of(name: str, quantity: Quantity) -> int:
    """CPU in thousandths of a core, everything else in its own unit; rounded up, as the scheduler does."""
    return Quantity(quantity).bytes if name != "cpu" else -int(-Quantity(quantity).exact * _MILLI // 1)
