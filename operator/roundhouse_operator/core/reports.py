"""What the pods of a variant say of themselves, as it was last heard.

The shell asks them now and then. Silence is no report and never a zero: nothing shrinks and nothing is
forgotten because a pod did not answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model of an engine, by the name that the engine knows it by."""

    state: str
    """`ready`, `loading`, `unloading` or `failed`; an open set, as the engine spells it."""
    vram_bytes: int | None = None
    """Most GPU memory that it was seen to hold; None where the engine does not say."""
    error: str = ""
    """Why it could not be loaded, in the engine's words."""


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What a pod says of all its models."""

    generation: int
    """Of the desired state that it has taken in; 0 where it was told by its environment alone."""
    models: Mapping[str, ModelReport]


Reports = Mapping[str, EngineReport]
"""By name of the pod."""


def peak_bytes(reports: Reports, model: str) -> int | None:
    """Most GPU memory that any pod was seen to use for the model; None while none says."""
    seen = (report.models.get(model) for report in reports.values())
    return max((one.vram_bytes for one in seen if one and one.vram_bytes is not None), default=None)
