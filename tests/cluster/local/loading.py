"""Puts image archives into the running cluster's containerd, and leaves out what it has."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from tests.support.progress import Say

from .errors import ClusterError
from .images import Archive, inspect, stream
from .layout import Layout
from .lifecycle import first_process
from .machine import snapshotter
from .node import client

STDIN = "-"


def load(layout: Layout, archives: list[str], say: Say) -> None:
    """Import docker or OCI archives, and folders in OCI's layout.

    `-` is an archive on standard input, which is read whatever the cluster has.
    """
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
    if path.is_dir():
        what = _pipe_folder(layout, path)
    else:
        with path.open("rb") as file:
            what = _import(layout, file)
    loaded |= dict.fromkeys(archive.names, archive.digest)
    unfinished = record.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(loaded))
    unfinished.replace(record)
    return what


def _pipe_folder(layout: Layout, folder: Path) -> str:
    """Layers that another image brought are not sent again."""
    there = frozenset(_ctr(layout, "content", "list", "--quiet").split())
    try:
        return _pipe(layout, folder, there)
    except ClusterError:  # containerd may have dropped just now what no image had any more
        return _pipe(layout, folder, frozenset())


def _pipe(layout: Layout, folder: Path, without: frozenset[str]) -> str:
    reading, writing = os.pipe()

    def send() -> None:
        # Ends when the other side does: it says itself why.
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as out:
            stream(folder, out, without)

    sending = threading.Thread(target=send)
    with os.fdopen(reading, "rb") as archive:
        sending.start()
        try:
            return _import(layout, archive)
        finally:
            archive.close()
            sending.join()


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
