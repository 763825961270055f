"""The command `roundhouse`. Its subcommands are in `commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from roundhouse_operator.commands import key, operator, status, what_if

COMMANDS = (operator, status, what_if, key)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status that the subcommand says; 2 for a command line that cannot be read."""
    found = read(arguments)
    status: int = found.run(found)
    return status


def read(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. Ends the process where it cannot be read."""
    parser = argparse.ArgumentParser(
        prog="roundhouse", description="Runs model engines on Kubernetes as custom resources."
    )
    parser.add_argument("--version", action="version", version=f"roundhouse {version('roundhouse')}")
    parser.add_argument("-n", "--namespace", help="for those commands that read a cluster")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add(commands)
    found = parser.parse_args(arguments)
    if found.namespace is not None and not hasattr(found, "output"):
        parser.error(f"{found.command!r} reads nothing of a cluster, and takes no -n")
    return found


if __name__ == "__main__":
    sys.exit(main())
