"""How many cores the engine may compute on, which is not how many the machine has. Standard library alone."""

import os
from pathlib import Path
from typing import Final

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """Those that the process is bound to, and no more than the container's CPU limit."""
    return within_quota(len(os.sched_getaffinity(0)), _QUOTA.read_text() if _QUOTA.exists() else "")


def within_quota(seen: int, quota: str) -> int:
    """`quota` is the text of a control group's `cpu.max`."""
    limit, _, period = quota.strip().partition(" ")
    if not limit.isdigit() or not period.isdigit():
        return seen
    return max(min(seen, round(int(limit) / int(period))), 1)
