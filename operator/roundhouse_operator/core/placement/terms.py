"""The labels that a node must have for a pod to be put there, as terms of a node affinity.

They say what the labels can express and no more. What they cannot (that a node has cards of several kinds,
that a share of a GPU has a part of its memory) is worked out from the nodes that are there when a pod is
placed, so a cluster that shares no GPU and mixes no cards gets none of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from roundhouse_operator.core.placement.need import Expression, Stated, Term
from roundhouse_operator.core.placement.nodes import (
    AMD,
    AMD_MEMORY_LABEL,
    HOSTNAME_LABEL,
    MPS,
    NVIDIA,
    NVIDIA_GPU,
    TIME_SLICING,
    label_base,
    product_label,
)
from roundhouse_operator.core.placement.supply import Supply

AMD_SIZES_GIB: Final = (4, 8, 12, 16, 20, 24, 32, 48, 64, 80, 96, 128, 144, 192, 256, 288)
"""Cards that AMD sells or has sold for compute: its labels are words, and words have no order."""
PARTITIONS: Final = 4
"""Different numbers of MPS replicas that one pod may be placed on."""
_GIB_IN_MIB: Final = 1024


def build_terms(
    stated: Stated, resource: str, memory_mib: int | None, supply: Supply, products: Iterable[str] = ()
) -> tuple[Term, ...]:
    """`products` are those that a slice goes by; else the author's count."""
    memory = _memory(resource, memory_mib, supply)
    wanted = tuple(products) or stated.products
    other: Term = (Expression(product_label(resource), "In", wanted),) if wanted else ()
    base = label_base(resource)
    if base == NVIDIA_GPU and supply.mixed and (memory or other):
        other = (*other, Expression(HOSTNAME_LABEL, "NotIn", supply.mixed))
    shared = [sharing for name, sharing in supply.shared if name == base]
    if not shared or not (memory_mib or stated.count > 1):
        return ((*memory, *other),) if memory or other else ()
    alone = Expression(f"{base}.sharing-strategy", "NotIn", (MPS, TIME_SLICING))
    parts = sorted({one.replicas for one in shared if one.strategy == MPS})[:PARTITIONS]
    if not memory_mib or stated.count > 1:
        parts = []  # several shares may be shares of one card
    return (
        (*memory, alone, *other),
        *((*_part(base, replicas, memory_mib or 0), *other) for replicas in parts),
    )


def plain_terms(stated: Stated, resource: str) -> tuple[Term, ...]:
    """What the specs alone ask for."""
    return build_terms(stated, resource, stated.memory.mib if stated.memory else None, Supply())


def tells_memory(resource: str) -> bool:
    """Whether nodes that offer the resource are labelled with its memory by somebody."""
    return resource.startswith((NVIDIA, AMD))


def _memory(resource: str, memory_mib: int | None, supply: Supply) -> Term:
    if not memory_mib or not tells_memory(resource):
        return ()
    if resource.startswith(AMD):
        sizes = {*(f"{size}G" for size in AMD_SIZES_GIB), *supply.amd_sizes}
        enough = {int(size[:-1]) for size in sizes if size[:-1].isdecimal()}
        fitting = sorted(size for size in enough if size * _GIB_IN_MIB >= memory_mib)
        fitting = fitting or [-(-memory_mib // _GIB_IN_MIB)]
        return (Expression(AMD_MEMORY_LABEL, "In", tuple(f"{size}G" for size in fitting)),)
    return (_at_least(label_base(resource), memory_mib),)


def _part(base: str, replicas: int, memory_mib: int) -> Term:
    """A share by MPS: the label tells of the whole card."""
    return (
        _at_least(base, memory_mib * replicas),
        Expression(f"{base}.sharing-strategy", "In", (MPS,)),
        Expression(f"{base}.replicas", "In", (str(replicas),)),
    )


def _at_least(base: str, memory_mib: int) -> Expression:
    """`Gt` is strict, and a card of exactly that size fits."""
    return Expression(f"{base}.memory", "Gt", (str(memory_mib - 1),))
