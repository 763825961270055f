"""Which process and network namespace are a cluster's, told so that a number used again is not mistaken."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Identity:
    """Process `pid`, begun `start` clock ticks after boot `boot`, in network namespace `network` (inode)."""

    pid: int
    start: int
    boot: str
    network: int

    @classmethod
    def of_process(cls, pid: int, network: int) -> Self:
        began = _start(pid)
        if began is None:
            raise ProcessLookupError(f"process {pid} is gone")
        return cls(pid, began, _boot(), network)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What was written, or None where nothing (whole) was: then no process was let go on either."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(asdict(self)))
        unfinished.replace(path)

    @property
    def alive(self) -> bool:
        return self.boot == _boot() and _start(self.pid) == self.start

    @property
    def same_boot(self) -> bool:
        return self.boot == _boot()

    def processes(self) -> list[int]:
        """Every process in the network namespace, also those that a test started there."""
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and self._holds(entry)
        ]

    def _holds(self, process: Path) -> bool:
        try:
            return (process / "ns/net").stat().st_ino == self.network
        except OSError:
            return False


def _boot() -> str:
    return BOOT_ID.read_text().strip()


def _start(pid: int) -> int | None:
    """The process's start in clock ticks; None if it is gone or has ended and only waits to be buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
