"""Resources as the operator leaves them, with what a test wants different."""

from dataclasses import dataclass, field, replace
from typing import Any

NAMESPACE = "models"
Manifest = dict[str, Any]


def condition(kind: str, status: str, reason: str, message: str = "") -> Manifest:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-01T10:00:00Z",
    }


@dataclass
class Variant:
    """A ModelVariant that has won all its names."""

    name: str
    served_name: str | None = None
    namespace: str = NAMESPACE
    alternate_names: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    published: tuple[str, ...] | None = None
    stage: str = "Transcribe"
    languages: tuple[str, ...] | None = ("en", "hr")
    word_timestamps: str = "Native"
    streaming: str = "None"
    interfaces: tuple[str, ...] = ("Batch",)
    features: tuple[str, ...] = ()
    real_time_factor: str = "0.05"
    dialect: str = "Roundhouse"
    engine: str = "fake-engine"
    backend: str = "Service"
    model_name: str = ""
    available: str = "True"
    reason: str = "Serving"
    replicas: int = 1
    hold_seconds: int | None = None
    max_in_flight: int | None = None
    embedding: Manifest | None = None
    spec: Manifest = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.served_name or self.name

    def manifest(self) -> Manifest:
        names = (self.id, *self.alternate_names, *self.aliases)
        return {
            "apiVersion": "roundhouse.dev/v1alpha1",
            "kind": "ModelVariant",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "creationTimestamp": "2026-11-01T09:00:00Z",
            },
            "spec": {
                "engineRef": {"name": self.engine},
                "servedName": self.id,
                "alternateNames": list(self.alternate_names),
                "aliases": list(self.aliases),
                "source": {"type": "Builtin"},
                "replicas": self.replicas,
                **self.spec,
            },
            "status": {
                "servedName": self.id,
                "publishedNames": list(names if self.published is None else self.published),
                "engine": {"name": self.engine, "uid": "u", "generation": 1},
                "backends": [
                    {
                        "name": self.name if self.backend == "Service" else self.engine,
                        "type": self.backend,
                        "port": 8000,
                        "modelName": self.model_name or f"engine-{self.name}",
                    }
                ],
                "conditions": [
                    condition("Available", self.available, self.reason),
                    condition("Ready", self._ready, self.reason, "as told"),
                ],
                "placement": {"device": "CPU"},
                "effective": self._effective(),
            },
        }

    @property
    def _ready(self) -> str:
        """What sleeps is ready to be woken."""
        return "True" if self.reason == "Idle" else self.available

    def asleep(self) -> "Variant":
        """Under Demand, at zero."""
        hold_seconds = 120 if self.hold_seconds is None else self.hold_seconds
        return replace(self, hold_seconds=hold_seconds, available="False", reason="Idle", replicas=0)

    def _effective(self) -> Manifest:
        scaled: Manifest = {}
        if self.hold_seconds is not None:
            scaled |= {"scalingMode": "Demand", "maxHoldSeconds": self.hold_seconds}
        if self.max_in_flight is not None:
            scaled["maxInFlightPerReplica"] = self.max_in_flight
        capabilities: Manifest = {"streaming": self.streaming, "wordTimestamps": self.word_timestamps}
        if self.features:
            capabilities["features"] = list(self.features)
        if self.languages is not None:
            capabilities["languages"] = list(self.languages)
        if self.embedding is not None:
            capabilities["embedding"] = self.embedding
        return {
            "stage": self.stage,
            "version": "1.0.0",
            "dialect": self.dialect,
            "interfaces": list(self.interfaces),
            "capabilities": capabilities,
            "performance": {"realTimeFactor": {"cpu": self.real_time_factor}, "speedFactor": "8.0"},
            "gpuMode": "Optional",
            "minMemory": "2G",
            "displayMemory": "1.0G",
            **scaled,
        }


def engine(name: str = "fake-engine", namespace: str = NAMESPACE, **spec: object) -> Manifest:
    return {
        "apiVersion": "roundhouse.dev/v1alpha1",
        "kind": "Engine",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "stage": "Transcribe",
            "interfaces": ["Batch"],
            "version": "1.0.0",
            "workload": {"image": "example.org/engine:1"},
            "serving": {"type": "Dedicated"},
            "hardware": {"gpu": {"mode": "Optional"}},
            **spec,
        },
        "status": {"variants": 1, "readyVariants": 1, "conditions": [condition("Ready", "True", "Serving")]},
    }


def upstream(base_url: str, name: str = "elsewhere", **members: object) -> Manifest:
    manifest = engine(name)
    manifest["spec"] = {
        "type": "Upstream",
        "stage": "Transcribe",
        "interfaces": ["Batch"],
        "version": "1.0.0",
        "api": {"dialect": "OpenAI"},
        "upstream": {"baseURL": base_url, **members},
    }
    return manifest


def slice_of(
    service: str,
    port: int,
    *,
    namespace: str = NAMESPACE,
    conditions: Manifest | None = None,
    suffix: str = "a",
    address: str = "127.0.0.1",
) -> Manifest:
    """An endpoint on loopback. A slice has one port for all of its addresses, so each port wants a slice."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-{suffix}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service, "roundhouse.dev/managed": "true"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "metrics", "port": 9090}, {"name": "http", "port": port}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": conditions or {"ready": True, "serving": True, "terminating": False},
            }
        ],
    }
