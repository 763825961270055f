"""Where the local cluster keeps things. Decides folders only; whoever needs one makes it.

The cache (binaries, shared by all checkouts, kept by `down`) follows the person; a cluster's state follows
the machine, because its number names interfaces and ports of the whole machine.
"""

import os
from pathlib import Path

STATE_ROOT = Path("/var/lib/roundhouse-local")


def cache_root() -> Path:
    named = os.environ.get("ROUNDHOUSE_CACHE")
    if named:
        return Path(named).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "roundhouse"


def state_folder(number: int) -> Path:
    return STATE_ROOT / str(number)


def repository_root() -> Path:
    """From where this package can be run as a module."""
    return Path(__file__).parents[3]
