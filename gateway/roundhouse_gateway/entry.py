"""A published variant with all that is needed to show it and to send it requests.

Decides what its status is and which of its endpoints may be given requests.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.enums import (
    BackendType,
    ConditionStatus,
    Device,
    Dialect,
    Interface,
    RouteName,
    ScalingMode,
    Stage,
    Streaming,
    WordTimestamps,
)
from roundhouse_api.realtime import PATH as REALTIME
from roundhouse_api.selection import Model, ModelStatus
from roundhouse_engine.languages import short_code
from roundhouse_gateway.access import OPEN, Access, access_to
from roundhouse_gateway.claims import Names
from roundhouse_gateway.records import EngineRecord, VariantRecord

UNHEALTHY_REASONS = frozenset(
    {Reason.CRASH_LOOP, Reason.OOM_KILLED, Reason.ENDPOINT_LOST, Reason.NO_ENDPOINTS}
)
DEFAULT_ROUTES = {
    RouteName.REALTIME: REALTIME,
    RouteName.TRANSCRIPTIONS: "/v1/audio/transcriptions",
    RouteName.TRANSLATIONS: "/v1/audio/translations",
    RouteName.EMBEDDINGS: "/v1/embeddings",
    RouteName.CHAT: "/v1/chat/completions",
    RouteName.COMPLETIONS: "/v1/completions",
    RouteName.RERANK: "/v1/rerank",
}
VERSION_PREFIX = "/v1"
FOREIGN_REALTIME: Final = "/v1/realtime"
"""Where engines have their sessions that are not built on the engine SDK."""
_MODEL_HEADER: Final = "x-roundhouse-model"
_STAGES: Final = frozenset(Stage)
_INTERFACES: Final = frozenset(Interface)

Addresses = Callable[[str], Collection[str]]
"""The base URLs of the ready endpoints behind a Service of the variant's namespace, by its name."""


@dataclass(frozen=True, slots=True)
class Target:
    """A backend that can be called: the same model name at each of its addresses."""

    type: BackendType
    model_name: str
    base_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """`engine` is as it was when its spec last changed: what it says of its own state may be old."""

    model: Model
    record: VariantRecord
    engine: EngineRecord | None
    target: Target | None
    access: Access = OPEN
    # Asked for with each request, so worked out once.
    place: tuple[str, str] = field(init=False, repr=False, compare=False)
    """Namespace and name of the variant."""
    may_be_waited_for: bool = field(init=False, repr=False, compare=False)
    """A request for it may bring it to life."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", (self.record.namespace, self.record.name))
        object.__setattr__(self, "may_be_waited_for", self._may_be_waited_for())

    @property
    def max_hold_seconds(self) -> int:
        return self.record.effective.max_hold_seconds or 0

    def _may_be_waited_for(self) -> bool:
        record, target = self.record, self.target
        return (
            record.effective.scaling_mode == ScalingMode.DEMAND
            and not record.suspended
            and target is not None
            and target.type is BackendType.SERVICE
        )

    @property
    def speaks_roundhouse(self) -> bool:
        """It is one of the cluster's own that are built on the engine SDK, and told which model is meant."""
        return self.admits_first and not self.is_upstream

    @property
    def admits_first(self) -> bool:
        """It is built on the engine SDK, here or elsewhere: a request is admitted before its body is read.

        Who is sent a body that it does not read closes the connection, and its answer may be lost.
        """
        return self.record.effective.dialect == Dialect.ROUNDHOUSE

    @property
    def headers(self) -> Mapping[str, str]:
        """What goes along with each request: the id that its answer is to name, or an upstream's key."""
        return {_MODEL_HEADER: self.model.id} if self.speaks_roundhouse else self.access.headers

    @property
    def lines(self) -> bytes:
        """The same as it stands in a request's head."""
        if not self.speaks_roundhouse:
            return self.access.lines
        return f"{_MODEL_HEADER}: {self.model.id}\r\n".encode()

    @property
    def is_upstream(self) -> bool:
        return self.target is not None and self.target.type is BackendType.UPSTREAM

    def _usual_path(self, route: RouteName) -> str:
        if route is RouteName.REALTIME and self.record.effective.dialect != Dialect.ROUNDHOUSE:
            return FOREIGN_REALTIME
        return DEFAULT_ROUTES[route]

    def url(self, base_url: str, route: RouteName) -> str:
        """Where the engine serves a route: as its resource says, else where OpenAI has it.

        The base URL of an upstream mostly ends in `/v1`, as OpenAI's SDKs have it; that is not said twice.
        """
        routes = self.engine.spec.api.routes if self.engine else ()
        path = next((each.path for each in routes if each.name == route), self._usual_path(route))
        base = base_url.rstrip("/")
        return base + (path.removeprefix(VERSION_PREFIX) if base.endswith(VERSION_PREFIX) else path)


def known_stage(record: VariantRecord) -> bool:
    """Whether this version knows what the variant does, or nobody does yet."""
    return record.effective.stage is None or record.effective.stage in _STAGES


def build_entry(
    record: VariantRecord,
    engine: EngineRecord | None,
    addresses: Addresses,
    names: Names,
    access: Access | None = None,
) -> Entry:
    """The variant of a known stage joined with its engine, its endpoints and what these are shown."""
    effective = record.effective
    access = access_to(engine.spec.upstream if engine else None, access)
    target = _target(record, engine, addresses, access)
    capabilities, performance = effective.capabilities, effective.performance
    languages = capabilities.languages if capabilities else None
    model = Model(
        id=record.served_name,
        stage=None if effective.stage is None else Stage(effective.stage),
        engine=record.engine,
        engine_model=target.model_name if target else "",
        status=_status(record, target),
        alternate_names=names.alternate_names,
        aliases=names.aliases,
        interfaces=frozenset(Interface(each) for each in effective.interfaces if each in _INTERFACES),
        languages=None if languages is None else frozenset(map(short_code, languages)),
        streaming=(capabilities and capabilities.streaming) or Streaming.NONE,
        word_timestamps=(capabilities and capabilities.word_timestamps) or WordTimestamps.NONE,
        speed_tier=record.speed_tier,
        cost_tiers=record.cost_tiers,
        classes=record.classes,
        features=frozenset((capabilities and capabilities.features) or ()),
        real_time_factor=_real_time_factor(record),
        speed_factor=_number(performance.speed_factor if performance else None),
        priority=record.priority,
    )
    is_upstream = target is not None and target.type is BackendType.UPSTREAM
    # A variant may still have pods behind an Engine that was made anew as an upstream: they see no key.
    return Entry(model, record, engine, target, access if is_upstream else OPEN)


def _target(
    record: VariantRecord, engine: EngineRecord | None, addresses: Addresses, access: Access
) -> Target | None:
    """The first backend with an address that takes requests now, else the first with none, else None."""
    targets = []
    for backend in record.backends:
        if backend.type is BackendType.UPSTREAM:
            base_urls = () if access.trouble else _base_urls_of_upstream(engine)
        else:
            base_urls = tuple(sorted(addresses(backend.name)))
        targets.append(Target(backend.type, backend.model_name, base_urls))
    return next((target for target in targets if target.base_urls), targets[0] if targets else None)


def _base_urls_of_upstream(engine: EngineRecord | None) -> tuple[str, ...]:
    """None where the engine is gone."""
    upstream = engine.spec.upstream if engine else None
    return () if upstream is None else (upstream.base_url,)


def _status(record: VariantRecord, target: Target | None) -> ModelStatus:
    """Endpoints are fresher than conditions, which stand still while the operator is away."""
    available = record.available.status is ConditionStatus.TRUE
    if target is not None and target.type is BackendType.UPSTREAM:
        return ModelStatus.RUNNING if available and target.base_urls else ModelStatus.AVAILABLE
    if target is not None and target.base_urls and record.effective.stage is not None:
        return ModelStatus.RUNNING
    lost = available and record.wanted
    if lost or record.available.reason in UNHEALTHY_REASONS:
        return ModelStatus.UNHEALTHY
    return ModelStatus.AVAILABLE


def _real_time_factor(record: VariantRecord) -> float | None:
    """That of the device the pods are on; of a GPU where that is not known, else of a CPU."""
    factors = record.effective.performance and record.effective.performance.real_time_factor
    if not factors:
        return None
    if record.device is Device.CPU:
        return _number(factors.cpu)
    return _number(factors.gpu if factors.gpu is not None or record.device is Device.GPU else factors.cpu)


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
