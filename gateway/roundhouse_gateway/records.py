"""Kubernetes objects as the API server gives them, cut down to what the gateway needs of each.

A record is made once for each event and then only read. An object that cannot be read raises
`UnreadableError` with the reason: the caller keeps what it had and says so in the log.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from roundhouse_api.conditions import ConditionType
from roundhouse_api.enums import BackendType, ConditionStatus, CostTier, Device, FallbackTrigger, SpeedTier
from roundhouse_api.v1alpha1 import (
    Backend,
    Condition,
    Effective,
    EngineSpec,
    EngineStatus,
    Fallback,
    Manifest,
    ModelVariantStatus,
    ObjectMeta,
    Selection,
    problems,
)
from roundhouse_gateway.text.spec import NOTHING, TextSpec, read_text_spec

ENDPOINT_SLICES = "endpointslices"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
HTTP_PORT_NAME = "http"

M = TypeVar("M", bound=BaseModel)


class UnreadableError(ValueError):
    """An object that this version cannot read; the text says why."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What people are shown of a variant."""

    display_name: str | None = None
    description: str | None = None
    owned_by: str | None = None
    license: str | None = None


@dataclass(frozen=True, slots=True)
class Backing:
    """A `status.backends` item: where requests go, and under which model name."""

    name: str
    type: BackendType
    model_name: str


@dataclass(frozen=True, slots=True)
class Summary:
    """One condition, for the reader."""

    status: ConditionStatus
    reason: str
    message: str


UNKNOWN = Summary(ConditionStatus.UNKNOWN, "Pending", "The operator has not looked at this yet.")


@dataclass(frozen=True, slots=True)
class VariantRecord:
    namespace: str
    name: str
    served_name: str
    published_names: frozenset[str]
    alternate_names: tuple[str, ...]
    aliases: tuple[str, ...]
    created: int
    texts: Texts
    speed_tier: SpeedTier | None
    cost_tiers: frozenset[CostTier]
    priority: int
    wanted: bool
    suspended: bool
    engine: str
    backends: tuple[Backing, ...]
    effective: Effective
    device: Device | None
    available: Summary
    ready: Summary
    classes: frozenset[str] = frozenset()
    fallbacks: tuple[Fallback, ...] = ()
    remaining_seconds: int | None = None
    """Until its weights have come; None where nobody knows."""
    text: TextSpec = NOTHING
    """What the spec says of JSON requests."""
    realtime_variant: str = ""
    """The variant of its namespace that takes realtime sessions in its stead."""


@dataclass(frozen=True, slots=True)
class EngineRecord:
    namespace: str
    name: str
    spec: EngineSpec
    variants: int
    ready_variants: int
    ready: Summary


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a Service. Only a ready one is given requests; one that ends finishes what it has."""

    host: str
    port: int
    ready: bool

    @property
    def base_url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SliceRecord:
    namespace: str
    name: str
    service: str
    endpoints: tuple[Endpoint, ...]


def read_variant(manifest: Manifest) -> VariantRecord:
    meta = _parse(ObjectMeta, manifest.get("metadata"))
    status = _parse(ModelVariantStatus, manifest.get("status") or {})
    spec: Manifest = manifest.get("spec") or {}
    selection = _parse(Selection, spec.get("selection") or {})
    conditions = _conditions(status.conditions)
    return VariantRecord(
        namespace=meta.namespace,
        name=meta.name,
        served_name=status.served_name or meta.name,
        published_names=frozenset(status.published_names),
        alternate_names=tuple(spec.get("alternateNames") or ()),
        aliases=tuple(spec.get("aliases") or ()),
        created=_epoch(meta.creation_timestamp),
        texts=Texts(
            display_name=spec.get("displayName"),
            description=spec.get("description"),
            owned_by=spec.get("ownedBy"),
            license=spec.get("license"),
        ),
        speed_tier=selection.speed_tier,
        cost_tiers=frozenset(selection.cost_tiers),
        priority=selection.priority,
        wanted=spec.get("replicas", 1) > 0 and not spec.get("suspend", False),
        suspended=spec.get("suspend", False),
        realtime_variant=(spec.get("realtimeVariantRef") or {}).get("name", ""),
        engine=status.engine.name if status.engine else "",
        backends=tuple(_backing(backend) for backend in status.backends),
        effective=status.effective or Effective(),
        device=status.placement.device if status.placement else None,
        available=conditions.get(ConditionType.AVAILABLE, UNKNOWN),
        ready=conditions.get(ConditionType.READY, UNKNOWN),
        classes=frozenset(selection.classes),
        fallbacks=tuple(_fallbacks(spec)),
        remaining_seconds=_remaining(status),
        text=read_text_spec(spec),
    )


def read_engine(manifest: Manifest) -> EngineRecord:
    meta = _parse(ObjectMeta, manifest.get("metadata"))
    status = _parse(EngineStatus, manifest.get("status") or {})
    return EngineRecord(
        namespace=meta.namespace,
        name=meta.name,
        spec=_parse(EngineSpec, manifest.get("spec")),
        variants=status.variants,
        ready_variants=status.ready_variants,
        ready=_conditions(status.conditions).get(ConditionType.READY, UNKNOWN),
    )


def read_slice(manifest: Manifest) -> SliceRecord:
    """An EndpointSlice: the addresses behind the port named `http`, none where it has no such port."""
    meta = _parse(ObjectMeta, manifest.get("metadata"))
    ports = [port for port in manifest.get("ports") or () if port.get("name") == HTTP_PORT_NAME]
    number = ports[0].get("port") if ports else None
    endpoints = (
        tuple(endpoint for item in manifest.get("endpoints") or () for endpoint in _endpoints(item, number))
        if number
        else ()
    )
    return SliceRecord(meta.namespace, meta.name, meta.labels.get(SERVICE_NAME_LABEL, ""), endpoints)


def _endpoints(item: dict[str, Any], port: int) -> list[Endpoint]:
    """Of an endpoint's addresses, which all mean the same pod, the first. Absent `ready` means ready."""
    conditions = item.get("conditions") or {}
    terminating = conditions.get("terminating") is True
    ready = conditions.get("ready") is not False and not terminating
    return [Endpoint(address, port, ready) for address in (item.get("addresses") or ())[:1]]


def _backing(backend: Backend) -> Backing:
    return Backing(backend.name, backend.type, backend.model_name)


def _conditions(conditions: tuple[Condition, ...]) -> dict[str, Summary]:
    return {each.type: Summary(each.status, each.reason, each.message) for each in conditions}


def _fallbacks(spec: Manifest) -> Iterator[Fallback]:
    """A word that a newer version knows is passed over, and with it a rule of no other."""
    for rule in spec.get("fallbacks") or ():
        when = rule.get("when") or []
        known = [each for each in when if each in set(FallbackTrigger)]
        if known or not when:
            yield _parse(Fallback, {**rule, "when": known})


def _remaining(status: ModelVariantStatus) -> int | None:
    seconds = status.weights.remaining_seconds if status.weights else None
    return seconds if seconds is not None and seconds >= 0 else None


def _epoch(timestamp: str) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp()) if timestamp else 0


def _parse(kind: type[M], value: object) -> M:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise UnreadableError(f"cannot be read: {'; '.join(problems(error))}") from error
