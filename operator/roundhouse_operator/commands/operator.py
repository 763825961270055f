"""`roundhouse operator`: the operator itself, with its settings in the environment."""

from __future__ import annotations

import argparse

from pydantic import ValidationError

from roundhouse_operator import ending, logs
from roundhouse_operator.commands.exits import FAILURE, SUCCESS, USAGE_ERROR, Commands, complain
from roundhouse_operator.errors import ConfigurationError
from roundhouse_operator.settings import PREFIX, Settings


def add(commands: Commands) -> None:
    commands.add_parser(
        "operator",
        help="turn Engines and ModelVariants into Deployments and keep their status true",
        description="Settings are read from the environment: "
        + ", ".join(f"{PREFIX}{name.upper()}" for name in Settings.model_fields),
    ).set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Exit status: 0 after SIGTERM, 1 where a successor may fare better, 2 for wrong settings."""
    try:
        settings = Settings()
    except ValidationError as error:
        return complain("\n".join(_setting_problems(error)), USAGE_ERROR)
    logs.configure(settings.log_level, settings.log_format)
    return ending.run(_operate(settings))


async def _operate(settings: Settings) -> int:
    from roundhouse_operator.health import PortError  # noqa: PLC0415
    from roundhouse_operator.leader import LeadershipLostError  # noqa: PLC0415
    from roundhouse_operator.lives import operate  # noqa: PLC0415

    try:
        await operate(settings)
    except ConfigurationError as error:
        return complain(f"No cluster to talk to: {error}", USAGE_ERROR)
    except PortError as error:
        return complain(f"{error}: set {PREFIX}METRICS_PORT to a free one", FAILURE)
    except LeadershipLostError as error:
        return complain(f"Leadership lost, {error}; not all has ended, so it does not begin anew", FAILURE)
    return SUCCESS


def _setting_problems(error: ValidationError) -> list[str]:
    return [f"{PREFIX}{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors()]
