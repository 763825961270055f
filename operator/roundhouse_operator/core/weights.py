"""Where an engine finds the weights of a variant, and whether this version can bring them there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.v1alpha1 import DownloadPolicy, ModelVariantSpec, SourceType

WEIGHTS_PATH: Final = "/weights"


@dataclass(frozen=True, slots=True)
class Weights:
    """Whether a pod can read the weights, and at which path; no path where the engine finds them itself."""

    ready: bool
    reason: Reason
    message: str
    path: str | None = None


def weights(variant: ModelVariantSpec) -> Weights:
    source = variant.source
    if source.type is SourceType.BUILTIN:
        return Weights(True, Reason.BUILTIN, "The engine's image carries the model")
    if source.type is SourceType.PVC and source.pvc:
        path = f"{WEIGHTS_PATH}/{(source.pvc.path or '').strip('/')}".rstrip("/")
        return Weights(
            True, Reason.DOWNLOADED, f"PersistentVolumeClaim {source.pvc.claim_name!r} holds them", path
        )
    if variant.download_policy is DownloadPolicy.SKIP:
        return Weights(True, Reason.DOWNLOAD_SKIPPED, "The engine fetches the weights itself")
    return Weights(
        False,
        Reason.NOT_YET_SUPPORTED,
        f"spec.source.type {source.type.value} is not fetched yet: use PVC or Builtin, or set "
        "`downloadPolicy: Skip` if the engine fetches the weights itself",
    )
