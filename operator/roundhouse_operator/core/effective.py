"""Engine and variant merged: what a variant overrides wins, field by field; a list or a map is replaced.

Merged here once and written to `status.effective`, so that operator and gateway never disagree. Which
pods follow from it is decided in `desired`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from roundhouse_api.model import Manifest, Model
from roundhouse_api.v1alpha1 import (
    GPU,
    Allocation,
    Capabilities,
    Dialect,
    Effective,
    EngineSpec,
    GPUMode,
    Hardware,
    Interface,
    ModelVariantSpec,
    Performance,
    Scaling,
    ScalingMode,
    Source,
    Stage,
)
from roundhouse_operator.core.scaling import hold_seconds, is_demand

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Merged:
    """One variant on one engine."""

    stage: Stage
    version: str
    dialect: Dialect
    interfaces: tuple[Interface, ...]
    capabilities: Capabilities | None
    performance: Performance | None
    hardware: Hardware
    scaling: Scaling | None
    max_in_flight: int | None
    model_name: str
    """What the engine calls the model."""

    @property
    def gpu(self) -> GPU:
        return self.hardware.gpu or GPU()


def merge(name: str, variant: ModelVariantSpec, engine: EngineSpec) -> Merged:
    """`name` is the variant's `metadata.name`."""
    return Merged(
        stage=engine.stage,
        version=engine.version,
        dialect=engine.api.dialect,
        interfaces=engine.interfaces,
        capabilities=_capabilities(engine.capabilities, variant.capabilities),
        performance=overlay(engine.performance, variant.performance),
        hardware=_hardware(engine.hardware, variant.hardware),
        scaling=overlay(engine.scaling, variant.scaling),
        max_in_flight=(variant.concurrency and variant.concurrency.max_in_flight_per_replica)
        or (engine.concurrency and engine.concurrency.max_in_flight_per_replica)
        or None,
        model_name=variant.engine_model_name or source_name(variant.source) or name,
    )


def overlay(base: M | None, over: M | None) -> M | None:
    """`over` where it says something, `base` elsewhere.

    An `Allocation` is one value: its type decides which of its members may be set.
    """
    if base is None or over is None:
        return over or base
    changes: dict[str, object] = {}
    for field in type(over).model_fields:
        mine, theirs = getattr(over, field), getattr(base, field, None)
        if mine is None:
            continue
        nested = isinstance(mine, Model) and not isinstance(mine, Allocation)
        changes[field] = overlay(theirs, mine) if nested and isinstance(theirs, Model) else mine
    return base.model_copy(update=changes)


def source_name(source: Source) -> str | None:
    """What the place that weights come from calls them; None for a model that the image carries."""
    name: str | None = None
    if source.hugging_face:
        name = source.hugging_face.repo
    elif bucket := source.s3 or source.gcs:
        name = _last(bucket.prefix) or bucket.bucket
    elif source.oci:
        name = _last(source.oci.path) or _last(source.oci.image.partition("@")[0])
    elif source.http:
        name = _last(source.http.url.partition("?")[0])
    elif source.pvc:
        name = _last(source.pvc.path) or source.pvc.claim_name
    return name or None


def port_of(url: str) -> int:
    """Of an upstream's base URL."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def as_status(merged: Merged) -> Manifest:
    """`status.effective`."""
    gpu = merged.gpu
    return Effective(
        stage=merged.stage.value,
        version=merged.version,
        dialect=merged.dialect.value,
        interfaces=tuple(sorted(each.value for each in merged.interfaces)),
        capabilities=merged.capabilities,
        performance=merged.performance,
        gpu_mode=(gpu.mode or GPUMode.NONE).value,
        min_memory=gpu.min_memory,
        display_memory=gpu.display_memory,
        max_in_flight_per_replica=merged.max_in_flight,
        **_scaling(merged.scaling),
    ).model_dump(by_alias=True, exclude_none=True, mode="json")


def _scaling(scaling: Scaling | None) -> dict[str, Any]:
    """What the gateway must know of it: nothing where nobody waits."""
    if scaling is None or not is_demand(scaling):
        return {}
    return {"scaling_mode": ScalingMode.DEMAND.value, "max_hold_seconds": hold_seconds(scaling)}


def _capabilities(engine: Capabilities | None, variant: Capabilities | None) -> Capabilities | None:
    merged = overlay(engine, variant)
    if merged and variant and variant.languages is not None:
        # The engine's count belongs to the engine's list.
        merged = merged.model_copy(update={"language_count": variant.language_count})
    return merged


def _hardware(engine: Hardware | None, variant: Hardware | None) -> Hardware:
    merged = overlay(engine, variant) or Hardware()
    if merged.gpu and merged.gpu.mode is GPUMode.NONE:
        shown = GPU(mode=GPUMode.NONE, display_memory=merged.gpu.display_memory)
        merged = merged.model_copy(update={"gpu": shown})
    return merged


def _last(path: str | None) -> str:
    return (path or "").rstrip("/").rpartition("/")[2]
