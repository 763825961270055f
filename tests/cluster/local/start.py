"""The library's way in: a running cluster by number."""

from tests.support.progress import Say

from . import lifecycle
from .handle import Cluster
from .layout import Mode
from .processes import say_to_stderr


def start(number: int, mode: Mode = "full", say: Say = say_to_stderr) -> Cluster:
    """A ready local cluster of this number: the one that runs, or one brought up now.

    Binaries are built first where they are missing. ROUNDHOUSE_CONTEXT is not looked at: tests need a
    cluster that they may fill with fake nodes and break.
    """
    return Cluster(lifecycle.up(number, mode, say))


def down(number: int, say: Say = say_to_stderr) -> bool:
    """End the cluster and remove what it left; False if there was none."""
    return lifecycle.down(number, say)
