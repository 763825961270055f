"""The command `roundhouse`: `roundhouse operator` runs the operator, with its settings in the environment."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import version

from pydantic import ValidationError

from roundhouse_operator import logs
from roundhouse_operator.errors import ConfigurationError
from roundhouse_operator.health import PortError
from roundhouse_operator.leader import LeadershipLostError
from roundhouse_operator.runtime import operate
from roundhouse_operator.settings import PREFIX, Settings

FAILURE, USAGE_ERROR = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after SIGTERM, 1 where a successor may fare better, 2 for wrong settings."""
    _parser().parse_args(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        return _complain("\n".join(_setting_problems(error)), USAGE_ERROR)
    logs.configure(settings.log_level, settings.log_format)
    try:
        asyncio.run(operate(settings))
    except ConfigurationError as error:
        return _complain(f"No cluster to talk to: {error}", USAGE_ERROR)
    except PortError as error:
        return _complain(f"{error}: set {PREFIX}METRICS_PORT to a free one", FAILURE)
    except LeadershipLostError as error:
        return _complain(f"Leadership lost, {error}: ending before anybody else begins", FAILURE)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="roundhouse", description="Runs model engines on Kubernetes as custom resources."
    )
    parser.add_argument("--version", action="version", version=f"roundhouse {version('roundhouse')}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "operator",
        help="turn Engines and ModelVariants into Deployments and keep their status true",
        description="Settings are read from the environment: "
        + ", ".join(f"{PREFIX}{name.upper()}" for name in Settings.model_fields),
    )
    return parser


def _setting_problems(error: ValidationError) -> list[str]:
    return [f"{PREFIX}{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors()]


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"roundhouse: {message}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
