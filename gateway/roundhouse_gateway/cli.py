"""The command `roundhouse-gateway`: settings from the environment, then serve until told to end."""

import sys

import uvloop
from pydantic import ValidationError

from roundhouse_gateway import logs
from roundhouse_gateway.api_access import ClusterError
from roundhouse_gateway.server import serve
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.supervise import supervise

CONFIGURATION_ERROR = 2


def main() -> None:
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"])
            sys.stderr.write(f"ROUNDHOUSE_GATEWAY_{name.upper()}: {problem['msg']}\n")
        sys.exit(CONFIGURATION_ERROR)
    logs.configure(settings.log_level, settings.log_format)
    try:
        if settings.workers == 1:
            uvloop.run(serve(settings))
        else:
            sys.exit(supervise(settings))
    except (ClusterError, ImportError, OSError) as error:
        sys.stderr.write(f"roundhouse-gateway: {error}\n")
        sys.exit(CONFIGURATION_ERROR)
    finally:
        logs.request_log.flush()  # what was cut off last says so when no loop is left to write it
