"""What a pass looks at: projections of objects, cut down to what a decision needs.

The shell makes them from what the API server sends, and parses times on the way: the core has no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import AdapterSpec, EngineSpec, ModelVariantSpec, SelectionPolicySpec
from roundhouse_operator.core.fields import Ownership, Path
from roundhouse_operator.core.kinds import Key, Kind
from roundhouse_operator.core.placement import Fleet, Node
from roundhouse_operator.core.replicas import NOBODY, Writer
from roundhouse_operator.core.reports import Reports
from roundhouse_operator.core.verification.proof import ExamFacts
from roundhouse_operator.core.weights.asked import Answers
from roundhouse_operator.core.weights.state import Loader, LoaderJob, Progress, Record, VolumeClaim

if TYPE_CHECKING:
    from roundhouse_operator.core.seat import Seat

__all__ = [
    "Adapter",
    "Child",
    "Claim",
    "Container",
    "Engine",
    "Invalid",
    "Node",
    "Pod",
    "Policy",
    "Resource",
    "Rollout",
    "Variant",
    "World",
]

Spec_co = TypeVar("Spec_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Invalid:
    """A spec that this version cannot read: it passed an older or a newer CRD."""

    reason: Reason
    problems: tuple[str, ...]

    @property
    def message(self) -> str:
        return "; ".join(self.problems)


@dataclass(frozen=True, slots=True)
class Resource(Generic[Spec_co]):
    """An object of one of our four kinds. `status` is raw: what an older or newer version wrote is data."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    labels: Mapping[str, str]
    spec: Spec_co | Invalid
    status: Manifest
    ending: bool = False
    """Deleted, and kept for a while by somebody's finalizer."""
    finalizers: tuple[str, ...] = ()
    """That keep it, where it was deleted."""
    restarted_at: str = ""
    """The annotation by which a person has pods replaced."""
    writer: Writer = NOBODY
    """Of `spec.replicas`, where there is such a field."""

    @property
    def key(self) -> Key:
        return Key(self.kind, self.namespace, self.name)

    def condition(self, type_: str) -> Manifest | None:
        """As it was last written."""
        return next((each for each in self.status.get("conditions") or () if each["type"] == type_), None)


Engine = Resource[EngineSpec]
Variant = Resource[ModelVariantSpec]
Adapter = Resource[AdapterSpec]
Policy = Resource[SelectionPolicySpec]


@dataclass(frozen=True, slots=True)
class Vain:
    """What an apply could not change about a child. `gist` says of which wish and of which child."""

    gist: str
    paths: frozenset[Path]


@dataclass(frozen=True, slots=True)
class Child:
    """An object that carries our labels and belongs to a variant or to an engine."""

    kind: Kind
    name: str
    uid: str
    owner_uid: str
    """Of the controller; empty where there is none."""
    live: Manifest
    """Without status and managed fields."""
    ownership: Ownership
    vain: Vain | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """A Deployment's own account of its pods."""

    current: bool
    """Whether its controller has seen the newest spec: else the figures are about an older one."""
    wanted: int
    replicas: int
    ready: int
    updated: int
    refused: str | None = None
    """Why pods cannot be created: a quota, a policy, a webhook."""
    stalled: bool = False
    """No progress within the deadline."""
    completed: bool = False
    """The newest template was once rolled out to the end, so it is one that works."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a pod. `ran_seconds` is how long it ran before it last ended."""

    name: str
    ready: bool = False
    started: bool = False
    restarts: int = 0
    waiting_reason: str = ""
    waiting_message: str = ""
    exit_code: int | None = None
    exit_reason: str = ""
    exit_message: str = ""
    ran_seconds: int = 0
    was_ready: bool = False
    """Before it last ended."""

    @property
    def begun(self) -> bool:
        """Whether the kubelet has got as far as its image: volumes come before."""
        return self.waiting_reason not in ("ContainerCreating", "PodInitializing")


@dataclass(frozen=True, slots=True)
class Share:
    """What stands on a pod of a Shared or Exclusive engine."""

    replica: int
    serves: frozenset[str]
    """Variants whose requests it gets."""
    generation: int
    """Of the list of models that it was told to read; 0 where it was told nothing since its start."""
    uid: str = ""
    loaded: bool = False
    """Whether its readiness gate is open."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of a variant, or of a shared engine."""

    name: str
    created: str
    template: str
    """Hash of the pod template, as the Deployment labels it."""
    ready: bool = False
    scheduled: bool = False
    scheduled_at: int = 0
    """Seconds since the epoch; 0 where nobody says."""
    ending: bool = False
    ends_at: int = 0
    """By when it was to be gone, in seconds since the epoch; 0 where it is not ending."""
    unschedulable: str | None = None
    """The scheduler's message, once it has tried."""
    gates: tuple[str, ...] = ()
    """What must be lifted before the scheduler looks at it."""
    failure: str | None = None
    """Why the pod as a whole failed: evicted, preempted, its node shut down."""
    node: str = ""
    devices: tuple[tuple[str, int], ...] = ()
    """Extended resources that it requests, GPUs for instance."""
    containers: tuple[Container, ...] = ()
    ip: str = ""
    containers_ready: bool = False
    """Its containers are, whatever a readiness gate says."""
    mark: str = ""
    """Of its template, where its variant must be verified."""
    gate: bool = False
    """The condition `roundhouse.dev/Verified` is True."""
    gate_message: str = ""
    address: str = ""
    """Where its engine listens, as `10.0.0.7:8000`; empty until it has an address."""
    share: Share | None = None
    loader: Loader | None = None
    """Of its weights, where the pod has one."""
    job: str = ""
    """The Job that made it."""
    store: str = ""
    """The weights that it was made to read, as `Store` names them."""
    claims: tuple[str, ...] = ()
    """That it mounts."""

    @property
    def done(self) -> bool:
        """Whether it has let go of its volumes: a loader's, which has come to its end."""
        return bool(
            self.job and self.loader and not self.loader.running and self.loader.exit_code is not None
        )

    @property
    def begun(self) -> bool:
        """Whether its volumes are mounted."""
        return any(one.begun for one in self.containers)


@dataclass(frozen=True, slots=True)
class Vacancy:
    """Where the last pod that is gone ran, and since when it is gone, in seconds since the epoch."""

    node: str
    since: int


@dataclass(frozen=True, slots=True)
class Store:
    """The weights of one key in one place, and who wants them."""

    key: str = ""
    jobs: tuple[LoaderJob, ...] = ()
    claim: VolumeClaim | None = None
    record: Record | None = None
    pods: tuple[Pod, ...] = ()
    """Of its Jobs."""
    readers: tuple[Pod, ...] = ()
    """Pods of any variant that were made to read them."""
    wanted_by: frozenset[str] = frozenset()
    """Variants."""
    listed: bool = False
    """Whether a pod that holds several models is told to read them."""

    @property
    def wanted(self) -> bool:
        return bool(self.wanted_by) or self.listed


@dataclass(frozen=True, slots=True)
class Claim:
    """A resource that wants public names, the first of which is its id."""

    key: Key
    created: str
    names: tuple[str, ...]
    published: tuple[str, ...] = ()
    """Names that it keeps against whoever comes."""
    yielding: tuple[str, ...] = ()
    """Names that it leaves to any other who wants them."""


@dataclass(frozen=True, slots=True)
class Detours:
    """Where the fallbacks of a variant lead. `cycle` begins and ends with the variant's own id."""

    cycle: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """The other variants of an engine, while a change of it reaches them one after another."""

    in_flight: int = 0
    """Those that are being changed."""
    first: bool = False
    """Whether none of those that wait is to be changed before this one."""
    failing: str = ""
    """The one on which the change went wrong."""


@dataclass(frozen=True, slots=True)
class World:
    """All that concerns one variant, at one moment."""

    variant: Variant
    engines: tuple[Engine, ...] = ()
    """Those that it may mean: the one it names, or all of the namespace under a selector."""
    rivals: Mapping[str, tuple[Claim, ...]] = field(default_factory=dict)
    """Everybody who wants one of its names, by that name; itself included."""
    children: tuple[Child, ...] = ()
    detours: Detours = Detours()
    exam: ExamFacts = field(default_factory=ExamFacts)
    rollout: Rollout | None = None
    pods: tuple[Pod, ...] = ()
    fleet: Fleet = field(default_factory=Fleet)
    """Nodes, and surveys of them."""
    reports: Reports = field(default_factory=dict)
    """What its pods say of the models that they hold."""
    taken: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Devices that pods of any variant hold, by node and resource."""
    vacancy: Vacancy | None = None
    """What the last of its pods left; None: none went since this process began."""
    line: Line = Line()
    autoscaler: str = ""
    """A HorizontalPodAutoscaler that is set upon it."""
    stores: Mapping[str, Store] = field(default_factory=dict)
    """Caches of weights of the namespace, by name."""
    mounts: Mapping[str, tuple[Pod, ...]] = field(default_factory=dict)
    """Pods of the namespace that carry our labels, by the claims that they mount."""
    progress: Mapping[str, Progress] = field(default_factory=dict)
    """Of loaders that run, by pod."""
    answers: Answers = field(default_factory=dict)
    now: int = 0
    """Seconds since the epoch."""
    lodged: int = 0
    """Pods that get its requests, of an engine that it shared before and is to leave."""
    seat: Seat | None = None
    """How it stands in the pods of an engine that it shares; None: it shares none, or nobody looked yet."""
    deaf: bool | None = None
    """Whether the gateways' load is not known; None: nobody can say, or it is too early to."""
