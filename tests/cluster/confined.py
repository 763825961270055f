"""An image's program as a strict cluster runs it: PID 1, any user, a root that is read-only, no network.

The namespaces and the mounts are made here, of a container that buildah has unpacked, and end with it.
"""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.images.store import FENCE, NAMESPACES, Store
from tests.support.waiting import wait_until

USER = 1_000_670_000
"""As OpenShift gives: in no passwd, another for each namespace, in the group of root."""
ENTER = """
set -eu
root=$(buildah --root "$1" --runroot "$2" mount "$3")
user=$4
shift 4
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc none "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t tmpfs none "$root/tmp"
chmod 1777 "$root/tmp"
exec unshare --net --ipc --uts sh -euc 'ip link set lo up; exec "$@"' sh \\
    chroot "$root" setpriv --reuid "$user" --regid 0 --clear-groups --no-new-privs --bounding-set -all "$@"
"""


@dataclass(frozen=True, slots=True)
class Confined:
    """A program that runs; what it says goes into `log`."""

    process: subprocess.Popen[bytes]
    environment: Mapping[str, str]
    log: Path

    @property
    def logged(self) -> str:
        return self.log.read_text(errors="replace")

    def run(self, code: str) -> str:
        """What a program of Python prints beside it, in the same container, as the same user."""
        enter = ["nsenter", "--target", str(self._first()), "--mount", "--pid", "--net", "--ipc", "--uts"]
        user = ["setpriv", "--reuid", str(USER), "--regid", "0", "--clear-groups", "--no-new-privs"]
        command = [*enter, "--root", *user, *_env(self.environment), "python", "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stderr}\nlog:\n{self.logged}"
        return done.stdout.strip()

    def end(self) -> int:
        """By SIGTERM, as a kubelet does; its exit status."""
        subprocess.run(["kill", "-TERM", str(self._first())], check=True)
        return self.process.wait(timeout=60)

    def _first(self) -> int:
        """The process that is PID 1 in there, as it is called out here."""

        def inside() -> list[str]:
            """Once it has its root, and with it all else."""
            assert self.process.poll() is None, self.logged
            listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            return [child for child in listed if Path(f"/proc/{child}/root").readlink() != Path("/")]

        wait_until(inside, seconds=60, what="the program has its namespaces")
        return int(inside()[0])


@contextmanager
def confined(
    store: Store, container: str, command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[Confined]:
    """Run the command of the container's image until the context ends."""
    layers, run = str(store.folder / "layers"), str(store.folder / "run")
    script = ["sh", "-c", ENTER, "sh", layers, run, container, str(USER), *_env(environment), *command]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*FENCE, *NAMESPACES, *script], stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        try:
            yield Confined(process, environment, log)
        finally:
            process.kill()
            process.wait()


def _env(environment: Mapping[str, str]) -> list[str]:
    return ["env", "-i", "--chdir=/tmp", *(f"{name}={value}" for name, value in environment.items())]
