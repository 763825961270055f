"""What cannot be where several variants share a pod: there is one template, and it is the engine's."""

from __future__ import annotations

from collections.abc import Iterator

from roundhouse_api.conditions import Reason
from roundhouse_api.v1alpha1 import (
    GPU,
    Dialect,
    DownloadPolicy,
    EngineSpec,
    Hardware,
    ModelVariantSpec,
    ServingType,
    SourceType,
)
from roundhouse_operator.core.diagnose import Trouble


def refuse_sharing_engine(spec: EngineSpec) -> Trouble | None:
    """Why an engine cannot hold several variants in a pod."""
    if not shares_pods(spec) or spec.api.dialect is Dialect.ROUNDHOUSE:
        return None
    kind = spec.serving.type.value if spec.serving else ""
    return Trouble(
        Reason.INVALID_SPEC,
        f"spec.serving.type {kind} with spec.api.dialect {spec.api.dialect.value}: only images that follow "
        "Roundhouse's engine contract load and unload models while they run; use Dedicated",
    )


def refuse_sharing(spec: ModelVariantSpec, engine: EngineSpec) -> Trouble | None:
    """What a variant sets that cannot differ from one variant of a pod to the other."""
    if not shares_pods(engine):
        return None
    fields = sorted(_own(spec, engine))
    if not fields:
        return None
    return Trouble(
        Reason.NOT_SHAREABLE,
        f"{', '.join(fields)}: the variant shares its pods with others, which cannot differ in this",
    )


def _own(spec: ModelVariantSpec, engine: EngineSpec) -> Iterator[str]:
    if spec.args:
        yield "spec.args"
    if spec.env:
        yield "spec.env"
    if spec.verification:
        yield "spec.verification"
    if spec.source.type is SourceType.PVC:
        yield "spec.source.type PVC"
    elif _fetched(spec) and not shared_claim(engine):
        yield "spec.source (without a claim for all variants, spec.cache.pvc.claimName of the engine)"
    if spec.rollout:
        yield from (
            f"spec.rollout.{name}" for name in spec.rollout.model_dump(by_alias=True, exclude_none=True)
        )
    yield from _hardware(spec.hardware or Hardware())


def _hardware(hardware: Hardware) -> Iterator[str]:
    """Memory alone is a variant's own: it is packed by it."""
    gpu = hardware.gpu or GPU()
    for name in hardware.model_dump(by_alias=True, exclude_none=True, exclude={"gpu"}):
        yield f"spec.hardware.{name}"
    for name in gpu.model_dump(by_alias=True, exclude_none=True, exclude={"min_memory", "display_memory"}):
        yield f"spec.hardware.gpu.{name}"


def _fetched(spec: ModelVariantSpec) -> bool:
    return spec.source.type is not SourceType.BUILTIN and spec.download_policy is not DownloadPolicy.SKIP


def shared_claim(spec: EngineSpec) -> str | None:
    """The claim that holds the weights of all variants: a pod that runs gets no other volume."""
    return spec.cache.pvc.claim_name if spec.cache and spec.cache.pvc else None


def shares_pods(spec: EngineSpec) -> bool:
    """Whether pods of the engine hold more than one variant, or one of several."""
    return spec.serving is not None and spec.serving.type is not ServingType.DEDICATED
