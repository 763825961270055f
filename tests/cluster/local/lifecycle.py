"""Brings clusters up and takes them down, from the machine's side. One caller at a time for each number."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.progress import Say

from . import cgroups, machine
from .addresses import COUNT, Addresses, addresses
from .build import ensure_binaries
from .claims import refuse_while_used
from .config import ENVIRONMENT
from .errors import ClusterError
from .identity import Identity
from .layout import Layout, Mode
from .packages import require_packages
from .paths import STATE_ROOT, repository_root, state_folder
from .pins import CONTROL_PLANE_NAMES, NAMES

LOCK_WAIT_SECONDS = 500.0
BRING_UP_SECONDS = 400.0
END_SECONDS = 60.0
# What is written before the first image is loaded, and some room.
STATE_MIB: dict[Mode, int] = {"control-plane": 256, "full": 1024}


def up(number: int, mode: Mode, say: Say) -> Layout:
    """A cluster of this number that is ready: the one that runs, or one made now."""
    own = addresses(number)
    machine.check_privileges()
    running = find(number)
    if running and running.mode in (mode, "full") and _is_ready(running):
        return running
    require_packages(mode)
    binaries = ensure_binaries(say, CONTROL_PLANE_NAMES if mode == "control-plane" else NAMES)
    with _number_lock(number, say):
        running = find(number)
        if running is None:
            _clear(own)
            machine.check_disk(STATE_ROOT, STATE_MIB[mode])
            machine.check_free(own)
            running = _launch(Layout(own, mode, state_folder(number), binaries))
        elif running.mode not in (mode, "full"):
            raise ClusterError(
                f"cluster {number} runs as a control plane alone. "
                f"Take it down first (`down --number {number}`) or use another number."
            )
    _follow(running, say)
    return running


def down(number: int, say: Say) -> bool:
    """End the cluster, running, half built or dead, and remove what it left. True if there was anything.

    ClusterError where tests of another process use it.
    """
    own = addresses(number)
    if not state_folder(number).exists():
        return False
    refuse_while_used(number)
    machine.check_privileges()
    with _number_lock(number, say):
        _clear(own)
    with suppress(OSError):
        STATE_ROOT.rmdir()
    return True


def find(number: int) -> Layout | None:
    """The cluster of this number whose first process lives, ready or not."""
    state = state_folder(number)
    identity = Identity.read(state / "cluster.json")
    if identity is None or not identity.alive:
        return None
    spec = json.loads((state / "spec.json").read_text())
    return Layout(addresses(number), spec["mode"], state, Path(spec["binaries"]))


def known() -> list[int]:
    """The numbers that have a state folder, running or not."""
    return [number for number in range(COUNT) if state_folder(number).exists()]


def ask(layout: Layout, request: dict[str, Any]) -> dict[str, Any]:
    """Send the supervisor one request."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(str(layout.control))
        connection.sendall(json.dumps(request).encode() + b"\n")
        reply: dict[str, Any] = json.loads(connection.makefile().readline())
    if "error" in reply:
        raise ClusterError(f"the supervisor of cluster {layout.addresses.number} says: {reply['error']}")
    return reply


def components(layout: Layout) -> dict[str, dict[str, int | None]]:
    """Name → process and number of restarts of everything that the supervisor keeps running."""
    found: dict[str, dict[str, int | None]] = ask(layout, {"do": "status"})["components"]
    return found


def first_process(layout: Layout) -> int:
    identity = Identity.read(layout.identity)
    if identity is None or not identity.alive:
        raise ClusterError(f"cluster {layout.addresses.number} is not running: bring it up first")
    return identity.pid


def _is_ready(layout: Layout) -> bool:
    try:
        ask(layout, {"do": "status"})
    except (OSError, ValueError):
        return False
    return True


def _launch(layout: Layout) -> Layout:
    layout.logs.mkdir(mode=0o700, parents=True)
    spec = {"number": layout.addresses.number, "mode": layout.mode, "binaries": str(layout.binaries)}
    (layout.state / "spec.json").write_text(json.dumps(spec))
    layout.events.touch()
    with (layout.logs / "supervisor.log").open("ab") as log:
        status = subprocess.run(
            [sys.executable, "-m", f"{__package__}.supervisor", str(layout.state)],
            cwd=repository_root(),
            env=ENVIRONMENT | {"HOME": str(layout.state), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=False,
        ).returncode
    if status:
        text = (layout.logs / "supervisor.log").read_text()
        raise ClusterError(
            f"step 'namespaces' failed: the supervisor ended with {status}:\n{text[-1500:]}\n"
            f"It needs root with CAP_SYS_ADMIN and CAP_NET_ADMIN; in a container, run that one privileged."
        )
    return layout


def _follow(layout: Layout, say: Say) -> None:
    """Tell of each step until the cluster is ready."""
    deadline = time.monotonic() + BRING_UP_SECONDS
    with layout.events.open() as events:
        while True:
            line = events.readline()
            if line:
                if _tell(json.loads(line), layout, say):
                    return
            elif find(layout.addresses.number) is None:
                # It may have written its last words between the read and the look.
                if not (rest := events.readline()):
                    raise ClusterError(_died(layout))
                _tell(json.loads(rest), layout, say)
            elif time.monotonic() > deadline:
                raise ClusterError(
                    f"cluster {layout.addresses.number} was not ready within {BRING_UP_SECONDS:.0f} s. "
                    f"Logs are in {layout.logs}."
                )
            else:
                time.sleep(0.05)


def _tell(event: dict[str, object], layout: Layout, say: Say) -> bool:
    match event["event"]:
        case "ready":
            return True
        case "step":
            say(f"cluster {layout.addresses.number}: {event['name']} ({event['seconds']} s)")
        case "failed":
            raise ClusterError(
                f"cluster {layout.addresses.number}: {event['reason']}\n"
                f"Logs are in {layout.logs} until the next `up` or `down`. "
                f"Mend the cause and run `up` again: it starts from a clean state."
            )
        case _:
            pass
    return False


def _died(layout: Layout) -> str:
    log = layout.logs / "supervisor.log"
    text = log.read_text(errors="replace")[-1500:] if log.exists() else ""
    return (
        f"cluster {layout.addresses.number} ended while it was brought up (killed? out of memory?).\n{text}\n"
        f"Logs are in {layout.logs}. Run `up` again: it starts from a clean state."
    )


def _clear(own: Addresses) -> None:
    state = state_folder(own.number)
    if not state.exists():
        return
    identity = Identity.read(state / "cluster.json")
    if identity and identity.same_boot:
        _end_processes(identity, own)
        machine.remove_link(own)
    cgroups.remove(own.cgroup)
    shutil.rmtree(state)


def _end_processes(identity: Identity, own: Addresses) -> None:
    """The cluster's processes, which end with their first; then what tests started in its network."""
    if identity.alive:
        os.kill(identity.pid, signal.SIGKILL)
    _until(
        lambda: not identity.alive,
        f"process {identity.pid} of cluster {own.number} was killed but does not end",
    )
    _until(
        lambda: not _kill_strangers(identity, own),
        f"processes in the network of cluster {own.number} do not end",
    )


def _kill_strangers(identity: Identity, own: Addresses) -> bool:
    # A namespace's inode is used again: it is the cluster's only as long as the link's far end lives in it.
    doomed = identity.processes() if machine.link_exists(own) else []
    for pid in doomed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(doomed)


def _until(done: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + END_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{otherwise} within {END_SECONDS:.0f} s: it hangs in the kernel. "
                f"Run `down` again when what it waits for (`cat /proc/PID/stack`) is mended."
            )
        time.sleep(0.02)


@contextmanager
def _number_lock(number: int, say: Say) -> Iterator[None]:
    """Held by whoever changes the cluster: an abstract socket, freed by the kernel when its holder ends."""
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    told = False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        while True:
            try:
                lock.bind(f"\0roundhouse-local-{number}")
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"another command has worked on cluster {number} for {LOCK_WAIT_SECONDS:.0f} s"
                    ) from None
                if not told:
                    say(f"another command works on cluster {number}: waiting for it")
                    told = True
                time.sleep(0.1)
        yield
