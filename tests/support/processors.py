"""What the kernel says of processors: whose time was whose.

A test that measures how long something computed must not count what others took of the machine meanwhile.
"""

import os
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STOLEN: Final = 8
"""Which number of the line `cpu` of /proc/stat: proc(5), "steal"."""


def stolen_seconds() -> float:
    """That the host of this virtual machine gave to others while it had work here, of all processors, ever.

    To the guest a thread seems to compute all that time. In steps of a hundredth of a second.
    """
    return _stat(_STOLEN) / _TICKS


def offered_seconds() -> float:
    """Of all processors, whoever used them or none, ever."""
    return sum(_stat(number) for number in range(1, _STOLEN + 1)) / _TICKS


class Stolen:
    """What the host took since this was made."""

    def __init__(self) -> None:
        self._offered, self._stolen = offered_seconds(), stolen_seconds()

    @property
    def share(self) -> float:
        """Of the processors' time, from 0 to 1."""
        return (stolen_seconds() - self._stolen) / max(offered_seconds() - self._offered, 1e-9)


def queued_seconds(pid: int | str) -> dict[str, float]:
    """For which each thread of the process was ready and had no processor, ever, by the thread's id."""
    return {each.name: _queued(each) / 1e9 for each in Path(f"/proc/{pid}/task").iterdir()}


def queued_since(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """Of each thread but those that have ended."""
    return {thread: seconds - before.get(thread, 0.0) for thread, seconds in now.items()}


def _queued(thread: Path) -> int:
    try:
        return int((thread / "schedstat").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
        return 0


def _stat(number: int) -> int:
    with Path("/proc/stat").open(encoding="ascii") as lines:
        return int(lines.readline().split()[number])
