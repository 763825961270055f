"""The whole cluster as the gateway knows it at one moment, joined and indexed; never changed, only replaced.

Decides which names are answered (those a variant has won; across namespaces the earlier in the list wins),
what each variant's status is, and which endpoints may be given requests. Where the records come from is left
to `registry`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from roundhouse_api.conditions import Reason
from roundhouse_api.enums import (
    BackendType,
    ConditionStatus,
    Device,
    Dialect,
    Interface,
    RouteName,
    Stage,
    Streaming,
    WordTimestamps,
)
from roundhouse_api.selection import Catalogue, Model, ModelStatus, primary_language
from roundhouse_gateway.records import Endpoint, EngineRecord, SliceRecord, VariantRecord

UNHEALTHY_REASONS = frozenset({Reason.CRASH_LOOP, Reason.OOM_KILLED, Reason.ENDPOINT_LOST})
DEFAULT_ROUTES = {RouteName.TRANSCRIPTIONS: "/v1/audio/transcriptions"}
VERSION_PREFIX = "/v1"


@dataclass(frozen=True, slots=True)
class Target:
    """A backend that can be called: the same model name at each of its addresses."""

    type: BackendType
    model_name: str
    base_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A published variant with all that is needed to show it and to send it requests."""

    model: Model
    record: VariantRecord
    engine: EngineRecord | None
    target: Target | None

    @property
    def place(self) -> tuple[str, str]:
        """Namespace and name of the variant."""
        return self.record.namespace, self.record.name

    @property
    def max_hold_seconds(self) -> int:
        return self.record.effective.max_hold_seconds or 0

    @property
    def speaks_roundhouse(self) -> bool:
        """The image is built on the engine SDK, so it admits a request before it reads the body."""
        return self.record.effective.dialect == Dialect.ROUNDHOUSE and not self.is_upstream

    @property
    def is_upstream(self) -> bool:
        return self.target is not None and self.target.type is BackendType.UPSTREAM

    @property
    def needs_upstream_key(self) -> bool:
        upstream = self.engine.spec.upstream if self.engine else None
        return upstream is not None and upstream.api_key_secret_ref is not None

    def url(self, base_url: str, route: RouteName) -> str:
        """Where the engine serves a route: as its resource says, else where OpenAI has it.

        The base URL of an upstream mostly ends in `/v1`, as OpenAI's SDKs have it; that is not said twice.
        """
        routes = self.engine.spec.api.routes if self.engine else ()
        path = next((each.path for each in routes if each.name == route), DEFAULT_ROUTES[route])
        base = base_url.rstrip("/")
        return base + (path.removeprefix(VERSION_PREFIX) if base.endswith(VERSION_PREFIX) else path)


class Snapshot:
    """Entries by id, the catalogue over them, and the engines' own resources."""

    __slots__ = ("catalogue", "engines", "entries")

    def __init__(self, entries: Iterable[Entry] = (), engines: Iterable[EngineRecord] = ()) -> None:
        self.entries: Mapping[str, Entry] = {entry.model.id: entry for entry in entries}
        self.catalogue = Catalogue(entry.model for entry in self.entries.values())
        self.engines = tuple(engines)

    def resolve(self, name: str) -> Entry:
        """The entry behind a name; the catalogue's `UnknownModelError` where there is none."""
        return self.entries[self.catalogue.resolve(name).id]


@dataclass(frozen=True, slots=True)
class Observed:
    """All records of the served namespaces, in no order."""

    variants: Sequence[VariantRecord]
    engines: Sequence[EngineRecord]
    slices: Sequence[SliceRecord]


Key = tuple[str, str]


def build_snapshot(observed: Observed, namespaces: Sequence[str], *, aliases_enabled: bool) -> Snapshot:
    engines = {(engine.namespace, engine.name): engine for engine in observed.engines}
    endpoints: defaultdict[Key, list[Endpoint]] = defaultdict(list)
    for piece in observed.slices:
        endpoints[piece.namespace, piece.service].extend(piece.endpoints)
    variants: defaultdict[str, list[VariantRecord]] = defaultdict(list)
    for record in observed.variants:
        variants[record.namespace].append(record)

    entries: list[Entry] = []
    taken: set[str] = set()
    for namespace in namespaces:
        found: list[Entry] = []
        for record in sorted(variants[namespace], key=lambda record: record.name):
            names = _won_names(record, taken, aliases_enabled=aliases_enabled)
            if names is not None:
                engine = engines.get((namespace, record.engine))
                entry = _build_entry(record, engine, endpoints, names)
                found += [entry] if entry is not None else []
        entries += found
        taken.update(name for entry in found for name in entry.model.names)
    rank = {namespace: place for place, namespace in enumerate(namespaces)}
    return Snapshot(entries, sorted(observed.engines, key=lambda each: (rank[each.namespace], each.name)))


@dataclass(frozen=True, slots=True)
class _Names:
    alternate_names: tuple[str, ...]
    aliases: tuple[str, ...]


def _won_names(record: VariantRecord, taken: set[str], *, aliases_enabled: bool) -> _Names | None:
    """The names to answer to; None where the public id itself is another's."""

    def won(name: str) -> bool:
        return name in record.published_names and name not in taken

    if not won(record.served_name):
        return None
    return _Names(
        tuple(filter(won, record.alternate_names)),
        tuple(filter(won, record.aliases)) if aliases_enabled else (),
    )


def _build_entry(
    record: VariantRecord,
    engine: EngineRecord | None,
    endpoints: Mapping[Key, Sequence[Endpoint]],
    names: _Names,
) -> Entry | None:
    """The variant joined with its engine and endpoints; None for a stage that this version does not know."""
    effective = record.effective
    if effective.stage is not None and effective.stage not in set(Stage):
        return None
    target = _target(record, engine, endpoints)
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
        interfaces=frozenset(Interface(each) for each in effective.interfaces if each in set(Interface)),
        languages=None if languages is None else frozenset(map(primary_language, languages)),
        streaming=(capabilities and capabilities.streaming) or Streaming.NONE,
        word_timestamps=(capabilities and capabilities.word_timestamps) or WordTimestamps.NONE,
        speed_tier=record.speed_tier,
        cost_tiers=record.cost_tiers,
        real_time_factor=_real_time_factor(record),
        speed_factor=_number(performance.speed_factor if performance else None),
        priority=record.priority,
    )
    return Entry(model, record, engine, target)


def _target(
    record: VariantRecord, engine: EngineRecord | None, endpoints: Mapping[Key, Sequence[Endpoint]]
) -> Target | None:
    """The first backend with an address that takes requests now, else the first with none, else None."""
    targets = []
    for backend in record.backends:
        if backend.type is BackendType.UPSTREAM:
            base_urls = _base_urls_of_upstream(engine)
        else:
            behind = endpoints.get((record.namespace, backend.name), ())
            base_urls = tuple(sorted({each.base_url for each in behind if each.ready}))
        targets.append(Target(backend.type, backend.model_name, base_urls))
    return next((target for target in targets if target.base_urls), targets[0] if targets else None)


def _base_urls_of_upstream(engine: EngineRecord | None) -> tuple[str, ...]:
    """None where the engine is gone, or wants a key, which this version cannot send."""
    upstream = engine.spec.upstream if engine else None
    return () if upstream is None or upstream.api_key_secret_ref else (upstream.base_url,)


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
