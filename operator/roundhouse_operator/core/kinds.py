"""The kinds that the operator reads and writes, and how an object is named in a log or a queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from roundhouse_api import names


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource type as the API server's paths spell it. `group` is empty for the core API."""

    name: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @override
    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Key:
    """One object of the API: what the queue holds."""

    kind: Kind
    namespace: str
    name: str

    @override
    def __str__(self) -> str:
        return f"{self.kind.name} {self.namespace}/{self.name}"


ENGINE: Final = Kind("Engine", names.GROUP, names.VERSION, names.ENGINES)
VARIANT: Final = Kind("ModelVariant", names.GROUP, names.VERSION, names.MODEL_VARIANTS)
ADAPTER: Final = Kind("Adapter", names.GROUP, names.VERSION, names.ADAPTERS)
POLICY: Final = Kind("SelectionPolicy", names.GROUP, names.VERSION, names.SELECTION_POLICIES)
API_KINDS: Final = (ENGINE, VARIANT, ADAPTER, POLICY)

DEPLOYMENT: Final = Kind("Deployment", "apps", "v1", "deployments")
REPLICA_SET: Final = Kind("ReplicaSet", "apps", "v1", "replicasets")
SERVICE: Final = Kind("Service", "", "v1", "services")
DISRUPTION_BUDGET: Final = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
CONFIG_MAP: Final = Kind("ConfigMap", "", "v1", "configmaps")
CLAIM_TEMPLATE: Final = Kind("ResourceClaimTemplate", "resource.k8s.io", "v1", "resourceclaimtemplates")
CHILD_KINDS: Final = (CONFIG_MAP, DEPLOYMENT, SERVICE, DISRUPTION_BUDGET, CLAIM_TEMPLATE)
"""What a variant or a shared engine owns."""

POD: Final = Kind("Pod", "", "v1", "pods")
JOB: Final = Kind("Job", "batch", "v1", "jobs")
VOLUME_CLAIM: Final = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")
SECRET: Final = Kind("Secret", "", "v1", "secrets")
STORAGE_CLASS: Final = Kind("StorageClass", "storage.k8s.io", "v1", "storageclasses", namespaced=False)
CACHE_KINDS: Final = (VOLUME_CLAIM, CONFIG_MAP, JOB)
"""What a cache of weights consists of; no variant owns it."""
STORE: Final = Kind("Weights", "", "", "weights")
"""No resource of the API: the weights of one key in one place, of which the objects have the name."""

NODE: Final = Kind("Node", "", "v1", "nodes", namespaced=False)
DEVICE_CLASS: Final = Kind("DeviceClass", "resource.k8s.io", "v1", "deviceclasses", namespaced=False)
RESOURCE_SLICE: Final = Kind("ResourceSlice", "resource.k8s.io", "v1", "resourceslices", namespaced=False)
CLAIM_KINDS: Final = (CLAIM_TEMPLATE, DEVICE_CLASS, RESOURCE_SLICE)
"""What a cluster need not serve."""
LEASE: Final = Kind("Lease", "coordination.k8s.io", "v1", "leases")
AUTOSCALER: Final = Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
ENDPOINT_SLICE: Final = Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices")
EVENT: Final = Kind("Event", "events.k8s.io", "v1", "events")
