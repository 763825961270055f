"""GPU memory of one pod: what is known of the weights, what is needed, and what was measured.

    total    = the larger of `gpu.minMemory` and the measured peak; it alone decides on nodes
    weights  = `source.size`, else the bytes that were fetched
    overhead = total - weights, where both are known and the weights are the smaller

The weights' size on disk never decides: an engine may load them smaller than they lie there.
"""

from __future__ import annotations

from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_api.quantity import MIB, Quantity
from roundhouse_api.v1alpha1 import RequiredMemory, Source

STEP_MIB: Final = 256
"""Peaks are rounded up to it, so that a few bytes more write no status."""


def required(total_mib: int | None, weights_mib: int | None) -> RequiredMemory | None:
    if not total_mib and not weights_mib:
        return None
    rest = total_mib - weights_mib if total_mib and weights_mib and weights_mib <= total_mib else None
    return RequiredMemory(
        weights=_quantity(weights_mib), overhead=_quantity(rest), total=_quantity(total_mib)
    )


def weights_mib(source: Source, status: Manifest) -> int | None:
    """`status` is the variant's."""
    if source.size:
        return source.size.mib
    fetched = (status.get("weights") or {}).get("totalBytes", 0)
    return -(-fetched // MIB) if fetched > 0 else None


def highest(before: str | None, peak_bytes: int | None) -> int | None:
    """The measured peak in MiB, which never falls. `before` is what the status says."""
    known = Quantity(before).mib if before else 0
    seen = -(-(peak_bytes or 0) // (STEP_MIB * MIB)) * STEP_MIB
    return max(known, seen) or None


def _quantity(mib: int | None) -> Quantity | None:
    return Quantity.of_mib(mib) if mib else None
