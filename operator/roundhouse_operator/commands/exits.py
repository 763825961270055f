"""How a command ends: its exit status, and what it says where it fails."""

from __future__ import annotations

import argparse
import sys
from typing import Final, TypeAlias

SUCCESS: Final = 0
FAILURE: Final = 1
USAGE_ERROR: Final = 2

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  # it has no public name


def complain(message: str, status: int) -> int:
    sys.stderr.write(f"roundhouse: {message}\n")
    return status
