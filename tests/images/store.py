"""buildah over a store of our own, so that whatever the machine keeps in buildah's or podman's is left alone.

Each command runs in a mount and process namespace of its own that the kernel ends with this process, however
that ends: nothing stays mounted or running, and what a killed build left in the store is dropped by the next.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.progress import Say, run_slow, tail

BUILD_CACHE = "buildah-cache"  # what RUN --mount=type=cache keeps, in buildah's temporary folder
FENCE = ("setpriv", "--pdeathsig", "KILL")
NAMESPACES = (
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)


class ImageError(Exception):
    """A step of building an image that could not be done. The message says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Store:
    """The folder of layers, build caches and logs; used by one process at a time, which holds its lock."""

    folder: Path

    def recover(self) -> None:
        """Drop what a killed build left: its records of mounts, its containers and temporary files."""
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        for name in ("logs", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for left in (self.folder / "tmp").iterdir():
            if left.is_file():
                left.unlink()
            elif not left.name.startswith(BUILD_CACHE):
                shutil.rmtree(left)
        self.buildah("rm", "--all", step="clearing the store")

    def prune(self) -> None:
        """Drop images that lost their name to a newer build."""
        self.buildah("rmi", "--prune", step="clearing the store")

    def drop_others(self, kept: str, *, newest: int = 0) -> None:
        """Drop images that have the name of `kept` and another tag, but for so many of the newest."""
        # Listed by age, the newest first.
        listed = self.buildah("images", "--format", "{{.Name}}:{{.Tag}}", step="clearing the store").split()
        repository = kept.rpartition(":")[0]
        old = [name for name in listed if name != kept and name.rpartition(":")[0] == repository][newest:]
        if old:
            self.buildah("rmi", "--force", *old, step="clearing the store")

    def image_id(self, reference: str) -> str | None:
        """The id of an image that is in the store, None of one that is not."""
        asked = self._fenced(self.command("images", "--quiet", "--no-trunc", reference))
        found = subprocess.run(asked, capture_output=True, text=True, check=False)
        ids = found.stdout.split() if found.returncode == 0 else []
        return ids[0].removeprefix("sha256:") if ids else None

    def buildah(self, *arguments: str, step: str, folder: Path | None = None) -> str:
        """Run a quick buildah command, in `folder` where it matters, and return what it printed."""
        command = self._fenced(self.command(*arguments))
        done = subprocess.run(
            command, cwd=folder, env=self._environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ImageError(f"{step}: `buildah {arguments[0]}` failed:\n{tail(done.stderr)}")
        return done.stdout.strip()

    def run_long(self, command: list[str], *, label: str, log: str, say: Say) -> float:
        """Run a slow command, output into a log, saying now and then that it goes on; the seconds it took."""
        path, environment = self.folder / "logs" / f"{log}.log", self._environment()
        fenced = self._fenced(command)
        status, seconds = run_slow(
            fenced, path, label=label, say=say, environment=environment, folder=self.folder
        )
        if status:
            raise ImageError(
                f"{label} failed with exit status {status}; its last lines:\n"
                f"{tail(path.read_text(errors='replace'))}\n"
                f"All of it is in {path}. What was built before stays: mend the cause and run the same again."
            )
        return seconds

    def command(self, *arguments: str) -> list[str]:
        return [
            "buildah",
            "--root",
            str(self.folder / "layers"),
            "--runroot",
            str(self.folder / "run"),
            *arguments,
        ]

    def _fenced(self, command: list[str]) -> list[str]:
        return [*FENCE, *NAMESPACES, *command]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.folder / "tmp")}
