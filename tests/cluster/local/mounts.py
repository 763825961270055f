"""The cluster's view of the machine's files: what it writes outside its state folder goes with it."""

import os
from pathlib import Path

from .namespaces import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    mount,
)

# containerd, runc, kubelet and CNI keep things here by names that cannot all be set.
OVERLAID = ("/run", "/var/lib", "/var/log")

# kubelet sets these for the whole machine where they differ. It is shown that they do not.
KUBELET_WANTS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def make_private() -> None:
    """In a new mount and process namespace: nothing mounted from here on is seen outside."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def overlay(state: Path) -> None:
    """Lay memory over the folders that the node's programs write to; the state folder stays on disk."""
    scratch = state / "scratch"
    scratch.mkdir()
    mount("tmpfs", scratch, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    kept = os.open(state, os.O_PATH | os.O_DIRECTORY)
    # Once a parent of the state folder is overlaid, only the descriptor still leads to it.
    layers = Path(f"/proc/self/fd/{kept}") / scratch.name
    for folder in OVERLAID:
        layer = layers / folder.strip("/").replace("/", "-")
        for part in ("upper", "work"):
            (layer / part).mkdir(parents=True)
        options = f"lowerdir={folder},upperdir={layer / 'upper'},workdir={layer / 'work'}"
        mount("overlay", folder, "overlay", MS_NOSUID | MS_NODEV, options)
    mount(f"/proc/self/fd/{kept}", state, None, MS_BIND | MS_REC)
    os.close(kept)
    _keep_kernel(scratch / "kernel")
    _hide_resolver(scratch / "resolv.conf")
    # Volumes that propagate mounts want a shared tree; its peers are all within this namespace.
    mount("none", "/", None, MS_REC | MS_SHARED)


def _keep_kernel(folder: Path) -> None:
    folder.mkdir()
    for name, value in KUBELET_WANTS.items():
        shown = folder / name.replace("/", ".")
        shown.write_text(f"{value}\n")
        mount(str(shown), f"/proc/sys/{name}", None, MS_BIND)


def _hide_resolver(empty: Path) -> None:
    """The machine's name servers cannot be reached from here: without them a lookup fails at once."""
    empty.touch()
    resolver = Path("/etc/resolv.conf")
    if resolver.exists():
        mount(str(empty), resolver.resolve(), None, MS_BIND)
