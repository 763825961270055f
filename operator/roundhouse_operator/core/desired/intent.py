"""All that a variant's objects are made from, and what they have in common: names, labels, owner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import EngineSpec, ModelVariantSpec, Workload
from roundhouse_operator.core.effective import Merged
from roundhouse_operator.core.kinds import VARIANT, Kind
from roundhouse_operator.core.placement import Need
from roundhouse_operator.core.sharing import shares_pods
from roundhouse_operator.core.weights.delivery import Delivery
from roundhouse_operator.core.weights.loader import UNTOLD, LoaderImage

DRAIN_SECONDS: Final = 30
QUEUE_LABELS: Final = "kueue.x-k8s.io/"
_OF_PODS: Final[Any] = {
    "engine_ref": True,
    "engine_selector": True,
    "source": True,
    "download_policy": True,
    "engine_model_name": True,
    "args": True,
    "env": True,
    "hardware": True,
    "concurrency": True,
    "rollout": {"drain_timeout_seconds": True},
    "verification": True,
}
"""What shapes pods. How many there are does not, or a scaler could make a variant jump the queue."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A variant on an engine that runs here, with its placement decided."""

    namespace: str
    name: str
    uid: str
    engine_name: str
    variant: ModelVariantSpec
    engine: EngineSpec
    workload: Workload
    merged: Merged
    need: Need
    delivery: Delivery
    loader: LoaderImage = UNTOLD
    restarts: tuple[tuple[str, str], ...] = ()
    """Annotations of the pod template by which a person has pods replaced."""
    queue_labels: Mapping[str, str] = field(default_factory=dict)
    """By which a queue, as Kueue's, knows the pods; the variant carries them for its pods."""
    strategy: Manifest = field(default_factory=dict)
    """Of the Deployment; it starts no pod and ends none."""
    least_replicas: int = 0
    """Pods that are needed whatever is asked for: one, to prove a new template."""

    @property
    def owner(self) -> tuple[Kind, str]:
        """What the objects belong to, by kind and name; its uid is `uid`."""
        return VARIANT, self.name

    @property
    def shares(self) -> bool:
        """Whether the pods are the engine's, which holds several variants in one."""
        return shares_pods(self.engine)

    @property
    def models_file(self) -> str | None:
        """Where the engine reads what to serve; None where its environment says it."""
        return None

    @property
    def replicas(self) -> int:
        return 0 if self.variant.suspend else max(self.least_replicas, self.variant.replicas)

    @property
    def asked_replicas(self) -> int:
        """Pods that are wanted for their own sake, and not to prove a template."""
        return 0 if self.variant.suspend else self.variant.replicas

    @property
    def digest(self) -> str:
        """Of what the variant's author says about its pods: it changes with an edit of the variant alone."""
        said = self.variant.model_dump_json(
            by_alias=True, exclude_defaults=True, exclude_none=True, include=_OF_PODS
        )
        restart = dict(self.restarts).get(names.ANNOTATION_RESTARTED_AT, "")
        return sha256(f"{said}{restart}".encode()).hexdigest()[:16]

    @property
    def drain_seconds(self) -> int:
        """How long a pod that ends may finish what it has begun."""
        asked = self.variant.rollout.drain_timeout_seconds if self.variant.rollout else None
        return DRAIN_SECONDS if asked is None else asked

    @property
    def app_labels(self) -> dict[str, str]:
        """What Kubernetes' own tools show of an application."""
        return {
            "app.kubernetes.io/name": self.engine_name,
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": "engine",
            "app.kubernetes.io/managed-by": "roundhouse",
            "app.kubernetes.io/part-of": "roundhouse",
        }

    @property
    def labels(self) -> dict[str, str]:
        return {
            **self.app_labels,
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
        head = child_head(kind, self.namespace, self.name, (*self.owner, self.uid))
        head["metadata"]["labels"] = self.labels
        return head


def child_head(kind: Kind, namespace: str, name: str, owner: tuple[Kind, str, str]) -> Manifest:
    """Head of a child of `owner`, by kind, name and uid: it goes with that, also while no operator runs."""
    whose, owner_name, uid = owner
    reference = {
        "apiVersion": whose.api_version,
        "kind": whose.name,
        "name": owner_name,
        "uid": uid,
        "controller": True,
    }
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {"namespace": namespace, "name": name, "labels": {}, "ownerReferences": [reference]},
    }


def queue_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Those of a variant's own labels that are about admission to a queue."""
    return {name: labels[name] for name in sorted(labels) if name.startswith(QUEUE_LABELS)}


def pod_labels(variant: str) -> dict[str, str]:
    return {names.LABEL_MANAGED: "true", names.LABEL_VARIANT: variant}
