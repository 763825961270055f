"""How the API server and kubectl present each kind: names, printed columns and the scale subresource."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roundhouse_api import names
from roundhouse_api.adapter import Adapter
from roundhouse_api.engine import Engine
from roundhouse_api.metadata import Resource
from roundhouse_api.policy import SelectionPolicy
from roundhouse_api.variant import ModelVariant


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; a wide one is printed by `-o wide` alone."""

    name: str
    json_path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """Where the scale subresource finds its three facts."""

    spec_replicas_path: str
    status_replicas_path: str
    label_selector_path: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind as it is served."""

    model: type[Resource]
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    scale: Scale | None = None

    @property
    def name(self) -> str:
        return self.model.__name__


def _of_ready(name: str, field: str, *, wide: bool = False) -> Column:
    return Column(name, f'.status.conditions[?(@.type=="Ready")].{field}', wide=wide)


READY: Final = _of_ready("Ready", "status")
REASON: Final = _of_ready("Reason", "reason")
DEGRADED: Final = Column("Degraded", '.status.conditions[?(@.type=="Degraded")].reason')
"""Empty where nothing is: the condition is there only while it is true."""
MESSAGE: Final = _of_ready("Message", "message", wide=True)
AGE: Final = Column("Age", ".metadata.creationTimestamp", "date")

KINDS: Final = (
    Kind(
        Engine,
        names.ENGINES,
        "eng",
        (
            READY,
            REASON,
            DEGRADED,
            Column("Stage", ".spec.stage"),
            Column("Serving", ".spec.serving.type"),
            Column("Version", ".spec.version"),
            Column("Variants", ".status.variants", "integer"),
            Column("Nodes", ".status.placement.nodesFitting", "integer"),
            Column("Image", ".spec.workload.image", wide=True),
            MESSAGE,
            AGE,
        ),
    ),
    Kind(
        ModelVariant,
        names.MODEL_VARIANTS,
        "mv",
        (
            READY,
            REASON,
            DEGRADED,
            Column("Model", ".status.servedName"),
            Column("Engine", ".status.engine.name"),
            Column("Want", ".spec.replicas", "integer"),
            Column("Up", ".status.readyReplicas", "integer"),
            Column("Device", ".status.placement.device", wide=True),
            Column("Needs", ".status.placement.required.total", wide=True),
            Column("Phase", ".status.phase", wide=True),
            MESSAGE,
            AGE,
        ),
        Scale(".spec.replicas", ".status.replicas", ".status.selector"),
    ),
    Kind(
        Adapter,
        names.ADAPTERS,
        "adp",
        (
            READY,
            REASON,
            Column("Base", ".spec.baseModel"),
            Column("Model", ".status.servedName"),
            Column("Loaded", ".status.loadedVariants", "integer"),
            MESSAGE,
            AGE,
        ),
    ),
    Kind(
        SelectionPolicy,
        names.SELECTION_POLICIES,
        "selpol",
        (
            READY,
            REASON,
            Column("Strategy", ".spec.strategy"),
            Column("Names", ".spec.servedNames"),
            AGE,
        ),
    ),
)
"""The four kinds, each after those that it builds upon."""
