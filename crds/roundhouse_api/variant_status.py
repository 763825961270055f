"""The status of a ModelVariant: who serves it, by which names, on what, and how far it has come.

It holds no addresses and no list of nodes or pods: those are many and change by the second, and
live in EndpointSlices. Lists and objects are atomic: one writer, the operator, replaces each whole.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Len, MaxLen

from roundhouse_api.capabilities import Capabilities, Performance
from roundhouse_api.enums import (
    AllocationChosen,
    BackendType,
    Device,
    RolloutStrategy,
    RolloutTurn,
    Verdict,
    VerificationResult,
)
from roundhouse_api.metadata import Status
from roundhouse_api.model import Model
from roundhouse_api.quantity import Quantity
from roundhouse_api.scalars import (
    COUNT_MAX,
    INT32_MAX,
    SAFE_INTEGER_MAX,
    Atomic,
    Between,
    Count,
    Features,
    Generation,
    InFlight,
    Name,
    Port,
    PublicId,
    Replicas,
    ResourceName,
    SetOf,
    Word,
)

OpenEnum = Annotated[str, Len(1, 32)]
"""A word of a closed set of the spec, open here so that an older reader survives a newer writer."""
Message = Annotated[str, MaxLen(256)]
BytesOrUnknown = Annotated[int, Between(-1, SAFE_INTEGER_MAX)]


class SelectedEngine(Model):
    """The engine that serves the variant."""

    name: Name
    """`metadata.name` of the Engine."""
    uid: Annotated[str, Len(1, 36)]
    """`metadata.uid` of the Engine: another Engine of the same name is another engine."""
    generation: Generation
    """Generation of the Engine that is rolled out."""


class Backend(Model):
    """A Service, or an upstream, that serves the variant."""

    name: Name
    """Name of the Service or, for an upstream, of the Engine."""
    type: BackendType
    """Service: addresses, readiness and draining are in its EndpointSlices. Upstream: the Engine's
    `spec.upstream.baseURL`."""
    port: Port | None = None
    """Port to connect to."""
    model_name: Annotated[str, Len(1, 200)]
    """What the engine calls the model; put into the forwarded request."""


class Effective(Model):
    """Engine and variant merged: what is true for requests. Merged once, by the operator."""

    stage: OpenEnum | None = None
    """The engine's stage."""
    version: Annotated[str, Len(1, 64)] | None = None
    """The engine's version."""
    dialect: OpenEnum | None = None
    """The engine's dialect."""
    interfaces: Annotated[tuple[OpenEnum, ...], SetOf(4)] = ()
    """Batch, Realtime."""
    capabilities: Capabilities | None = None
    """What requests can be served."""
    performance: Performance | None = None
    """Measured figures."""
    gpu_mode: Annotated[str, Len(1, 16)] | None = None
    """Required, Optional or None."""
    min_memory: Quantity | None = None
    """Memory that each GPU must have."""
    display_memory: Quantity | None = None
    """Memory that clients are shown."""
    max_in_flight_per_replica: InFlight | None = None
    """Requests that one replica works on at once."""
    scaling_mode: Annotated[str, Len(1, 16)] | None = None
    """Demand, where requests may wait for the variant to start."""
    max_hold_seconds: Annotated[int, Between(0, 3600)] | None = None
    """How long they may."""


class Candidate(Model):
    """An engine that was looked at."""

    engine: Name
    """`metadata.name` of the Engine."""
    verdict: Verdict
    """Chosen; Eligible, but another was chosen; or Rejected."""
    reason: Word
    """The verdict's cause in one word."""
    message: Message | None = None
    """The verdict's cause in a sentence."""


class EngineSelection(Model):
    """How the engine was chosen. It stays chosen as long as it fits."""

    candidates: Annotated[tuple[Candidate, ...], Atomic(16)] = ()
    """Engines that were looked at, the chosen one first."""
    omitted: Count = 0
    """Further engines that were looked at and are not listed."""


class RequiredMemory(Model):
    """GPU memory of one pod."""

    weights: Quantity | None = None
    """For the weights."""
    overhead: Quantity | None = None
    """For everything else: runtime, caches, activations."""
    total: Quantity | None = None
    """Both together."""


class RejectedNodes(Model):
    """Nodes that do not fit, by cause."""

    reason: Word
    """The cause in one word."""
    count: Annotated[int, Between(1, COUNT_MAX)]
    """How many nodes it concerns."""
    example: Annotated[str, MaxLen(253)] | None = None
    """One of them."""


class NodeExpression(Model):
    """What placement asks of one label of a node."""

    key: Annotated[str, Len(1, 316)]
    """The label."""
    operator: Annotated[str, Len(1, 16)]
    """In, NotIn or Gt, as in core/v1."""
    values: Annotated[tuple[Annotated[str, MaxLen(63)], ...], Atomic(64)] = ()
    """What it is compared with."""


class NodeTerm(Model):
    """Expressions that a node's labels must meet together."""

    match_expressions: Annotated[tuple[NodeExpression, ...], Atomic(8)] = ()
    """The expressions."""


class Placement(Model):
    """Where the variant's pods can run, as it was last decided."""

    device: Device | None = None
    """GPU or CPU."""
    allocation: AllocationChosen | None = None
    """By which mechanism: DevicePlugin, MIG or DRA."""
    resource_name: ResourceName | None = None
    """The extended resource that is requested. Absent where devices are claimed (DRA), and on the CPU."""
    revision: Annotated[str, MaxLen(16)] | None = None
    """Hash of the needs that this was decided for. It stands, with the pods, until they change."""
    node_selector_terms: Annotated[tuple[NodeTerm, ...], Atomic(8)] = ()
    """What was added to the pods' required node affinity: a node's labels must meet one of these."""
    required: RequiredMemory | None = None
    """GPU memory that one pod needs."""
    nodes_fitting: Count | None = None
    """Nodes that meet the needs."""
    nodes_rejected: Annotated[tuple[RejectedNodes, ...], Atomic(16)] = ()
    """Nodes that do not, counted by cause."""
    measured_peak_memory: Quantity | None = None
    """Most GPU memory that a pod was seen to use."""


class WeightsProgress(Model):
    """How far the download has come. Written at each 5 % or 30 seconds."""

    key: Annotated[str, MaxLen(64)] | None = None
    """Name of the weights in the cache."""
    revision: Annotated[str, MaxLen(128)] | None = None
    """The commit or digest that was resolved."""
    total_bytes: BytesOrUnknown | None = None
    """Size in bytes; -1: unknown."""
    done_bytes: Generation | None = None
    """Bytes that are there."""
    bytes_per_second: BytesOrUnknown | None = None
    """Rate; -1: unknown."""
    remaining_seconds: Annotated[int, Between(-1, INT32_MAX)] | None = None
    """Time left in seconds; -1: unknown."""


class RolloutStatus(Model):
    """How the change in flight replaces pods, or how the last one did."""

    strategy: RolloutStrategy | None = None
    """Surge: new pods first. Recreate: an old pod goes before its successor comes."""
    reason: Word | None = None
    """Why: Requested, FreeGPU, NoFreeGPU, NoNodeFits, GPUsNotCounted, NeedsNoGPU, NoRoom, VolumeHeld or
    NothingReady."""
    draining_replicas: Replicas = 0
    """Old pods that finish their requests."""
    turn: RolloutTurn | None = None
    """While a change of the Engine reaches its variants: Waiting for this one's turn, or Taken."""


class VerificationTestStatus(Model):
    """The outcome of a known-answer test."""

    name: Word
    """Name of the test."""
    result: VerificationResult
    """Passed, Failed or NotRun."""
    score: Annotated[str, MaxLen(16)] | None = None
    """What was measured, in the test's own unit."""
    message: Message | None = None
    """What came back where it was wrong."""


class VerificationStatus(Model):
    """The outcome of verification."""

    revision: Annotated[str, MaxLen(16)] | None = None
    """Hash of the pod template that was verified."""
    tests: Annotated[tuple[VerificationTestStatus, ...], Atomic(8)] = ()
    """The tests, by name."""
    verified_features: Features = ()
    """Features that the model showed."""
    unproven_features: Features = ()
    """Features that it claims and did not show."""
    passed_templates: Annotated[tuple[Annotated[str, MaxLen(16)], ...], Atomic(2)] = ()
    """Hashes of the last pod templates that passed: their pods serve while a newer one is tested."""


class ModelVariantStatus(Status):
    """The model as it is served."""

    phase: OpenEnum | None = None
    """One word for people. Nothing branches on it: read the conditions."""
    served_name: PublicId | None = None
    """The public id, resolved."""
    published_names: Annotated[tuple[PublicId, ...], Atomic(34)] = ()
    """The names that this variant won; the gateway answers to these alone. The public id comes first."""
    engine: SelectedEngine | None = None
    """The engine that serves the variant."""
    replicas: Replicas = 0
    """Pods."""
    ready_replicas: Replicas = 0
    """Pods that are ready."""
    updated_replicas: Replicas = 0
    """Pods of the newest template."""
    selector: Annotated[str, MaxLen(1024)] | None = None
    """Label selector of the pods, for the scale subresource."""
    backends: Annotated[tuple[Backend, ...], Atomic(16)] = ()
    """Services or upstreams that serve the variant."""
    effective: Effective | None = None
    """Engine and variant merged."""
    selection: EngineSelection | None = None
    """How the engine was chosen."""
    placement: Placement | None = None
    """Where the variant's pods can run."""
    weights: WeightsProgress | None = None
    """How far the download has come."""
    rollout: RolloutStatus | None = None
    """How the change in flight replaces pods."""
    verification: VerificationStatus | None = None
    """The outcome of verification."""
