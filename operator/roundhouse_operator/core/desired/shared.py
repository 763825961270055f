"""Objects of a Shared or Exclusive engine: its pods, which the Engine owns, and the Services of its variants.

A pod has a Deployment of one replica and a list of models of the same name. A variant's Service selects the
pods that carry the label of the variant, which the operator puts on a pod once the model answers there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from typing_extensions import override

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import EngineSpec, GPUMode, ModelVariantSpec, Quantity
from roundhouse_operator.core import effective
from roundhouse_operator.core.desired.deployment import build_deployment
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.desired.models import MODELS_FILE, build_models
from roundhouse_operator.core.desired.service import build_service
from roundhouse_operator.core.effective import Merged
from roundhouse_operator.core.kinds import ENGINE, Kind
from roundhouse_operator.core.weights.delivery import Delivery, Way

__all__ = ["ReplicaIntent", "build_deployment", "build_models", "build_variant_service", "replica_name"]

NOBODY: Final = ModelVariantSpec.model_validate(
    {"engineRef": {"name": "none"}, "source": {"type": "Builtin"}}
)
"""Where a pod's making asks for a variant and the pod has many: one that overrides nothing."""


NOTHING_FETCHED: Final = Delivery(Way.NONE, NOBODY.source)
"""Weights of a pod's variants are on the engine's claim before the variants are listed."""


@dataclass(frozen=True, slots=True)
class ReplicaIntent(Intent):
    """One pod of a Shared or Exclusive engine."""

    replica: int = 0

    @property
    @override
    def owner(self) -> tuple[Kind, str]:
        return ENGINE, self.engine_name

    @property
    @override
    def models_file(self) -> str:
        return str(MODELS_FILE)

    @property
    @override
    def labels(self) -> dict[str, str]:
        return {
            **self.app_labels,
            **self.pod_labels,
            names.LABEL_STAGE: self.engine.stage.value.lower(),
        }

    @property
    @override
    def pod_labels(self) -> dict[str, str]:
        return {
            names.LABEL_MANAGED: "true",
            names.LABEL_ENGINE: self.engine_name,
            names.LABEL_REPLICA: str(self.replica),
        }


def replica_name(engine: str, index: int) -> str:
    return f"{engine}-{index}"


def merge_replica(spec: EngineSpec, mib: int | None) -> Merged:
    """What all variants of the engine have in common; `mib` is the memory that the pod's GPU must have."""
    merged = effective.merge("", NOBODY, spec)
    gpu = merged.hardware.gpu
    if mib is None or gpu is None or gpu.mode in (None, GPUMode.NONE):
        return merged
    larger = gpu.model_copy(update={"min_memory": Quantity.of_mib(mib)})
    return replace(merged, hardware=merged.hardware.model_copy(update={"gpu": larger}))


def build_variant_service(intent: Intent) -> Manifest:
    """The Service of a variant on a shared engine: to the pods that have it loaded, and to no others."""
    service = build_service(intent)
    service["spec"]["selector"] = {
        names.LABEL_MANAGED: "true",
        names.LABEL_ENGINE: intent.engine_name,
        f"{names.LABEL_SERVES}{intent.name}": "true",
    }
    return service
