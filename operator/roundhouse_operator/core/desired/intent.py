"""All that a variant's objects are made from, and what they have in common: names, labels, owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import EngineSpec, ModelVariantSpec, Workload
from roundhouse_operator.core.effective import Merged
from roundhouse_operator.core.kinds import VARIANT, Kind
from roundhouse_operator.core.placement import Need

DRAIN_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Intent:
    """A variant on a Dedicated engine, with its placement decided."""

    namespace: str
    name: str
    uid: str
    generation: int
    engine_name: str
    variant: ModelVariantSpec
    engine: EngineSpec
    workload: Workload
    merged: Merged
    need: Need

    @property
    def replicas(self) -> int:
        return 0 if self.variant.suspend else self.variant.replicas

    @property
    def drain_seconds(self) -> int:
        """How long a pod that ends may finish what it has begun."""
        asked = self.variant.rollout.drain_timeout_seconds if self.variant.rollout else None
        return DRAIN_SECONDS if asked is None else asked

    @property
    def labels(self) -> dict[str, str]:
        return {
            "app.kubernetes.io/name": self.engine_name,
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": "engine",
            "app.kubernetes.io/managed-by": "roundhouse",
            "app.kubernetes.io/part-of": "roundhouse",
            names.LABEL_MANAGED: "true",
            names.LABEL_ENGINE: self.engine_name,
            names.LABEL_VARIANT: self.name,
            names.LABEL_STAGE: self.engine.stage.value.lower(),
        }

    @property
    def pod_labels(self) -> dict[str, str]:
        """By which Deployment and Service find the pods; a change of engine does not touch them."""
        return pod_labels(self.name)

    def metadata(self, kind: Kind) -> Manifest:
        """Head of a child: the variant owns it, so it goes with the variant, also while no operator runs."""
        return {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {
                "namespace": self.namespace,
                "name": self.name,
                "labels": self.labels,
                "ownerReferences": [
                    {
                        "apiVersion": VARIANT.api_version,
                        "kind": VARIANT.name,
                        "name": self.name,
                        "uid": self.uid,
                        "controller": True,
                    }
                ],
            },
        }


def pod_labels(variant: str) -> dict[str, str]:
    return {names.LABEL_MANAGED: "true", names.LABEL_VARIANT: variant}
