"""The cluster's own cgroups: its pods run under a root that nobody else uses, which `down` can remove."""

import errno
import os
import time
from contextlib import suppress
from pathlib import Path

from .errors import ClusterError

ROOT = Path("/sys/fs/cgroup")
END_SECONDS = 100.0


def version() -> int:
    """2 where one hierarchy holds all controllers, 1 where each has its own."""
    return 2 if (ROOT / "cgroup.controllers").exists() else 1


def hierarchies() -> list[Path]:
    if version() == 2:
        return [ROOT]
    return [
        path
        for path in sorted(ROOT.iterdir())
        if path.is_dir() and not path.is_symlink() and os.path.ismount(path)
    ]


def make(name: str) -> None:
    for hierarchy in hierarchies():
        if version() == 2:
            _delegate(hierarchy)
        (hierarchy / name).mkdir(exist_ok=True)


def remove(name: str) -> None:
    """Remove the tree whose processes are gone. The kernel may need a moment after the last of them."""
    deadline = time.monotonic() + END_SECONDS
    for hierarchy in hierarchies():
        while (hierarchy / name).exists():
            with suppress(OSError):
                for folder, _, _ in os.walk(hierarchy / name, topdown=False):
                    Path(folder).rmdir()
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"cgroup {str(hierarchy / name)!r} cannot be removed: a process still runs in it"
                )
            if (hierarchy / name).exists():
                time.sleep(0.02)


def _delegate(root: Path) -> None:
    """Let children of the root have the controllers that kubelet wants."""
    offered = set((root / "cgroup.controllers").read_text().split())
    wanted = offered & {"cpu", "cpuset", "memory", "pids", "io", "hugetlb"}
    missing = wanted - set((root / "cgroup.subtree_control").read_text().split())
    try:
        if missing:
            (root / "cgroup.subtree_control").write_text(
                " ".join(f"+{controller}" for controller in sorted(missing))
            )
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise ClusterError(
            "the root cgroup holds processes and so cannot hand controllers on (cgroup v2 in a container). "
            "Move them to a child first: mkdir /sys/fs/cgroup/init; "
            "xargs -n1 < /sys/fs/cgroup/cgroup.procs > /sys/fs/cgroup/init/cgroup.procs"
        ) from error
