"""What the operator is measured with: nodes of four kinds, and pairs that need a GPU."""

from collections.abc import Iterator
from typing import Final

from roundhouse_api.model import Manifest
from tests.cluster.local import FakeNode
from tests.unit.operator.samples import engine, variant

NODES: Final = 200
_KINDS: Final = (
    ("Tesla-T4", "15360", "turing"),
    ("NVIDIA-A10", "23028", "ampere"),
    ("NVIDIA-A100-SXM4-80GB", "81920", "ampere"),
    ("", "", ""),
)
"""Product, MiB and family as GPU feature discovery labels them; the last has no GPU."""
GPUS: Final = 32


def nodes() -> Iterator[FakeNode]:
    for number in range(NODES):
        product, memory, family = _KINDS[number % len(_KINDS)]
        labels = {
            "nvidia.com/gpu.product": product,
            "nvidia.com/gpu.memory": memory,
            "nvidia.com/gpu.family": family,
        }
        yield FakeNode(f"bench-{number}", gpus=GPUS if product else 0, labels=labels if product else {})


def paired_engine(name: str) -> Manifest:
    """It needs a GPU that two of the four kinds of nodes have, so that the scheduler has to choose."""
    return engine(name, hardware={"gpu": {"mode": "Required", "minMemory": "20Gi"}})


def paired_variant(name: str) -> Manifest:
    return variant(name, on=name)
