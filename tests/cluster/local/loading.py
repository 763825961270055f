"""Puts image archives into the running cluster's containerd, and leaves out those that it has."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from tests.support.progress import Say

from .errors import ClusterError
from .images import Archive, inspect
from .layout import Layout
from .lifecycle import first_process
from .machine import snapshotter
from .node import client

STDIN = "-"


def load(layout: Layout, archives: list[str], say: Say) -> None:
    """Import docker or OCI archives; `-` is one on standard input, which is read whatever the cluster has."""
    if layout.mode != "full":
        raise ClusterError(
            f"cluster {layout.addresses.number} is a control plane alone and has no containerd: "
            f"nothing there runs an image. Bring a whole one up (`up` without --control-plane)."
        )
    for archive in archives:
        began = time.monotonic()
        piped = archive == STDIN
        what = _import(layout, sys.stdin.buffer) if piped else _load_file(layout, Path(archive))
        say(f"{archive}: {what} ({time.monotonic() - began:.1f} s)")


def _load_file(layout: Layout, path: Path) -> str:
    archive = inspect(path)
    record = layout.state / "images.json"
    loaded: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    if _present(layout, archive, loaded):
        return "already there"
    with path.open("rb") as file:
        what = _import(layout, file)
    loaded |= dict.fromkeys(archive.names, archive.digest)
    unfinished = record.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(loaded))
    unfinished.replace(record)
    return what


def _present(layout: Layout, archive: Archive, loaded: dict[str, str]) -> bool:
    """Whether containerd has every name of the archive, with the content that was last loaded under it."""
    if not archive.names or any(loaded.get(name) != archive.digest for name in archive.names):
        return False
    return set(archive.names) <= set(_ctr(layout, "images", "list", "--quiet").split())


def _import(layout: Layout, file: IO[bytes]) -> str:
    output = _ctr(layout, "images", "import", "--snapshotter", snapshotter(layout.state), "-", stdin=file)
    names = [line.split()[1] for line in output.splitlines() if line.startswith("unpacking ")]
    return f"loaded {', '.join(names) or 'it'}"


def _ctr(layout: Layout, *arguments: str, stdin: IO[bytes] | None = None) -> str:
    inside = ("nsenter", f"--target={first_process(layout)}", "--mount", "--net")
    result = subprocess.run(
        [*inside, *client(layout), *arguments],
        stdin=stdin or subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if result.returncode:
        raise ClusterError(f"containerd refused {' '.join(arguments)!r}: {result.stderr.decode().strip()}")
    return result.stdout.decode()
