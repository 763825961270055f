"""The machine and the processes on it: what they are, what they use, where they run."""

import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tests.cluster.local.pins import KUBERNETES_VERSION

MEGABYTE = 1_000_000
_PACKAGES = ("roundhouse", "kopf", "aiohttp", "uvicorn", "uvloop", "pocketsphinx")


def header() -> str:
    """One line that says what was measured and on what."""
    processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{versions}, Kubernetes {KUBERNETES_VERSION}, Python {platform.python_version()}"
        f" on {len(cores())} x {processor[1] if processor else platform.machine()}, {memory:.0f} GiB,"
        f" Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"
    )


def cores() -> list[int]:
    """Those that this process may use."""
    return sorted(os.sched_getaffinity(0))


def pin(pid: int, core: int) -> None:
    """Keeps the threads that the process has now on one core. What is measured has a core of its own."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def resident_mb(pid: int) -> float:
    return _memory_mb(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    """The most that was resident since the start or `forget_peak`."""
    return _memory_mb(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    """Of the process and those that it started."""
    ticks = os.sysconf("SC_CLK_TCK")
    return sum(_cpu_ticks(one) for one in tree(pid)) / ticks


def waited_seconds(pid: int) -> float:
    """How long its threads could have run, while others had their core."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[1]) for each in threads) / 1e9


def _memory_mb(pid: int, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found, f"process {pid} has no {name}: it has ended"
    return int(found[1]) * 1024 / MEGABYTE


def tree(pid: int) -> Iterator[int]:
    """The process, and those that it started."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (thread / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
            continue
        for child in children:
            yield from tree(int(child))


def _cpu_ticks(pid: int) -> int:
    # The command's name may hold spaces and brackets; what follows its last bracket begins with field 3.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
