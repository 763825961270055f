"""The kind Engine: a runtime, either an image that the operator runs or a service that lives elsewhere."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from annotated_types import Len
from pydantic import Field

from roundhouse_api.capabilities import Capabilities, Concurrency, Performance, Scaling
from roundhouse_api.enums import (
    AccessMode,
    CacheType,
    Device,
    Dialect,
    EngineType,
    Interface,
    RouteName,
    ServingType,
    Stage,
    WeightFormat,
)
from roundhouse_api.hardware import Hardware
from roundhouse_api.metadata import KeyRef, Resource, Status, child_owner_name_rule
from roundhouse_api.model import Model, Rule, rule
from roundhouse_api.quantity import Quantity
from roundhouse_api.scalars import Between, Count, Features, HeaderName, Keyed, Name, Path, Port, SetOf, Url
from roundhouse_api.workload import Workload

_NO_PLACE_FOR_KEYS: Final = (
    *("accept", "accept-encoding", "connection", "content-length", "content-type", "cookie", "date"),
    *("expect", "host", "keep-alive", "origin", "proxy-connection", "sec-websocket-extensions"),
    *("sec-websocket-key", "sec-websocket-protocol", "sec-websocket-version", "te", "traceparent"),
    *("tracestate", "trailer", "transfer-encoding", "upgrade", "via", "x-request-id"),
)


class Upstream(Model):
    """A service that lives elsewhere and gets no Deployment."""

    base_url: Url = Field(alias="baseURL")
    """Address below which the service's routes lie, for example https://api.example.org/v1."""
    api_key_secret_ref: KeyRef | None = None
    """The key that the gateway sends along with each request. The Secret must carry the label
    roundhouse.dev/credential: upstream."""
    api_key_header: HeaderName | None = None
    """The header that the key stands in as it is, for example api-key. Absent: Authorization, as bearer
    token."""
    ca_config_map_ref: KeyRef | None = None
    """Certificates (PEM) to trust besides the system's own."""

    @rule(
        f"!has(self.apiKeyHeader) || !(self.apiKeyHeader.lowerAscii() in {list(_NO_PLACE_FOR_KEYS)})",
        "`apiKeyHeader` must be a header that means nothing else",
    )
    def header_is_free(self) -> bool:
        return (self.api_key_header or "").lower() not in _NO_PLACE_FOR_KEYS


class Route(Model):
    """Where the image serves one function of the API."""

    name: RouteName
    """The function: Transcriptions, Translations, Realtime, Embeddings, Chat, Completions, Rerank,
    Music, Speech or Models."""
    path: Path
    """Its path in the image, for example /v1/audio/transcriptions."""


class EngineAPI(Model):
    """How to talk to the engine."""

    dialect: Dialect = Dialect.ROUNDHOUSE
    """Whose manners the image has: Roundhouse (built on the engine SDK), OpenAI (any compatible
    server), VLLM, TEI, LlamaCpp or Speaches."""
    port: Port = 8000
    """Port of the engine's container."""
    routes: Annotated[tuple[Route, ...], Keyed(16, "name")] = ()
    """Paths that differ from those of the dialect."""


class SharedServing(Model):
    """Several variants in one pod."""

    max_variants_per_replica: Annotated[int, Between(1, 256)] | None = None
    """Most variants that one pod holds. Absent: as many as its memory holds."""


class ExclusiveServing(Model):
    """One variant at a time."""

    active_variant_name: Name | None = None
    """`metadata.name` of the variant that is to be loaded. Absent: none."""


class Serving(Model):
    """How variants are spread over pods."""

    type: ServingType
    """Dedicated: each variant has a Deployment of its own. Shared: the engine's pods hold several
    variants. Exclusive: the engine's pods hold one variant, switched on demand. Immutable."""
    shared: SharedServing | None = None
    """Set only with type Shared."""
    exclusive: ExclusiveServing | None = None
    """Set only with type Exclusive."""

    type_is_immutable: ClassVar[Rule[Serving]] = Rule(
        "self.type == oldSelf.type", "`type` is immutable: create another Engine and move its variants"
    )

    @rule(
        "(!has(self.shared) || self.type == 'Shared') && (!has(self.exclusive) || self.type == 'Exclusive')",
        "only the member named by `type` may be set",
    )
    def member_matches_type(self) -> bool:
        return (self.shared is None or self.type is ServingType.SHARED) and (
            self.exclusive is None or self.type is ServingType.EXCLUSIVE
        )


class EngineConcurrency(Concurrency):
    """How many requests one replica takes at once."""

    thread_safe: Annotated[bool, Field(strict=True)] | None = None
    """Whether the engine works on several requests at once. False: one after the other."""


class PVCCache(Model):
    """Weights on a PersistentVolumeClaim."""

    claim_name: Name | None = None
    """A claim that exists. Absent: the operator makes one."""
    storage_class_name: Name | None = None
    """StorageClass of the claim that the operator makes. Absent: the cluster's default."""
    size: Quantity | None = None
    """Size of the claim that the operator makes."""
    access_mode: AccessMode | None = None
    """ReadWriteMany lets pods on several nodes share the weights."""


class NodeCache(Model):
    """Weights in a directory of each node."""

    path: Path
    """The directory, for example /var/lib/roundhouse/models."""


class Cache(Model):
    """Where downloaded weights are kept."""

    type: CacheType
    """Ephemeral: in the pod, fetched at each start. PVC: on a claim. Node: in a directory of the node.
    ImageVolume: the source is an OCI image, mounted as a volume."""
    pvc: PVCCache | None = None
    """Set only with type PVC."""
    node: NodeCache | None = None
    """Set exactly with type Node."""

    @rule(
        "(!has(self.pvc) || self.type == 'PVC') && (self.type == 'Node') == has(self.node)",
        "only the member named by `type` may be set",
    )
    def member_matches_type(self) -> bool:
        return (self.pvc is None or self.type is CacheType.PVC) and (
            (self.type is CacheType.NODE) == (self.node is not None)
        )


class Probes(Model):
    """How to tell whether the engine is up. Absent paths are those of the dialect."""

    startup_timeout_seconds: Annotated[int, Between(1, 86_400)] | None = None
    """Seconds that a start may take, loading of weights included. Absent: 600."""
    readiness_path: Path | None = None
    """Path that answers 200 when requests can be served."""
    liveness_path: Path | None = None
    """Path that answers 200 while the process is alive."""
    period_seconds: Annotated[int, Between(1, 300)] | None = None
    """Seconds between two probes."""


class EngineSpec(Model):
    """The runtime as it should be."""

    type: EngineType = EngineType.WORKLOAD
    """Workload: the operator runs an image. Upstream: a service that lives elsewhere. Immutable."""
    workload: Workload | None = None
    """The image and its pod. Set exactly with type Workload."""
    upstream: Upstream | None = None
    """The service. Set exactly with type Upstream."""
    stage: Stage
    """What the engine does: Transcribe, Align, Diarize, Embed, Chat, Rerank, Music or Speak.
    Immutable."""
    interfaces: Annotated[tuple[Interface, ...], SetOf(4)]
    """Batch: a request with the whole input. Realtime: a session over a WebSocket."""
    version: Annotated[str, Len(1, 64)]
    """Version of the runtime that clients are shown, for example 1.0.0."""
    formats: Annotated[tuple[WeightFormat, ...], SetOf(16)] | None = None
    """Formats of weights that the engine loads: CTranslate2, Safetensors, PyTorch, NeMo, GGUF, ONNX,
    Sphinx, Other. Absent: any."""
    api: EngineAPI = Field(default_factory=EngineAPI)
    """How to talk to the engine."""
    serving: Serving | None = None
    """How variants are spread over pods. A Workload needs it."""
    capabilities: Capabilities | None = None
    """What requests can be served; a variant may override it."""
    hardware: Hardware | None = None
    """What a pod needs; a variant may override it. A Workload needs at least `gpu.mode`."""
    performance: Performance | None = None
    """Measured figures; a variant may override them."""
    concurrency: EngineConcurrency | None = None
    """How many requests one replica takes at once."""
    scaling: Scaling | None = None
    """How variants scale that do not say so themselves."""
    cache: Cache | None = None
    """Where downloaded weights are kept. Absent: Ephemeral."""
    probes: Probes | None = None
    """How to tell whether the engine is up."""

    identity_is_immutable: ClassVar[Rule[EngineSpec]] = Rule(
        "self.type == oldSelf.type && self.stage == oldSelf.stage",
        "`type` and `stage` are immutable: create another Engine",
    )

    @rule(
        "(self.type == 'Workload') == has(self.workload) && (self.type == 'Upstream') == has(self.upstream)",
        "exactly `workload` or `upstream` must be set, as `type` says",
    )
    def member_matches_type(self) -> bool:
        return (self.type is EngineType.WORKLOAD) == (self.workload is not None) and (
            self.type is EngineType.UPSTREAM
        ) == (self.upstream is not None)

    @rule(
        "self.type == 'Upstream' ? !has(self.hardware) && !has(self.cache) && !has(self.serving)"
        " : has(self.serving) && has(self.hardware) && has(self.hardware.gpu) && has(self.hardware.gpu.mode)",
        "a Workload needs `serving` and `hardware.gpu.mode`; an Upstream may have neither, nor `cache`",
    )
    def pods_only_for_a_workload(self) -> bool:
        if self.type is EngineType.UPSTREAM:
            return self.hardware is None and self.cache is None and self.serving is None
        gpu = self.hardware.gpu if self.hardware else None
        return self.serving is not None and gpu is not None and gpu.mode is not None


class EnginePlacement(Model):
    """Where the engine's own pods can run."""

    device: Device | None = None
    """GPU or CPU, as it was decided."""
    nodes_fitting: Count | None = None
    """Nodes that meet the engine's needs."""
    largest_gpu_memory: Quantity | None = Field(default=None, alias="largestGPUMemory")
    """Memory of the largest GPU that the engine could get."""


class EngineVerification(Model):
    """What was probed of the claimed capabilities."""

    verified_features: Features = ()
    """Features that the engine showed."""
    unproven_features: Features = ()
    """Features that it claims and did not show."""


class EngineStatus(Status):
    """The runtime as it is."""

    variants: Count = 0
    """Variants that use the engine; select them by the label roundhouse.dev/engine."""
    ready_variants: Count = 0
    """Variants of them that are Ready."""
    replicas: Count = 0
    """Pods of the engine's variants."""
    ready_replicas: Count = 0
    """Pods of them that are ready."""
    active_variant_name: Name | None = None
    """The variant that an Exclusive engine has really loaded."""
    placement: EnginePlacement | None = None
    """Where the engine's pods can run."""
    verification: EngineVerification | None = None
    """What was probed of the claimed capabilities."""


class Engine(Resource):
    """A runtime for models: an image that is run for ModelVariants, or a service that lives elsewhere."""

    kind: Literal["Engine"] = "Engine"
    spec: EngineSpec
    """The runtime as it should be."""
    status: EngineStatus = Field(default_factory=EngineStatus)
    """The runtime as it is; written by the operator."""

    name_leaves_room: ClassVar[Rule[Resource]] = child_owner_name_rule()
