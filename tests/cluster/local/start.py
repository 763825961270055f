"""The library's way in: a running cluster by number."""

import sys
from collections.abc import Callable

from . import lifecycle
from .handle import Cluster
from .layout import Mode


def start(number: int, mode: Mode = "full", say: Callable[[str], None] | None = None) -> Cluster:
    """A ready cluster of this number: the one that runs, or one brought up now (binaries built first if need be)."""
    layout = lifecycle.up(number, mode, say or _to_stderr)
    return Cluster(layout.kubeconfig, layout)


def down(number: int, say: Callable[[str], None] | None = None) -> bool:
    """End the cluster and remove what it left; False if there was none."""
    return lifecycle.down(number, say or _to_stderr)


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
