"""`roundhouse key create`: a new API key, and the Secret that makes the gateway know it.

The Secret goes to standard output, to be applied; the key itself to standard error, once. Nothing is written
to a cluster, and the key is kept nowhere.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime
from typing import Final

import yaml

from roundhouse_api.keys import Grant, KeyFormatError, Scope, issue
from roundhouse_api.names import SECRET_TYPE_API_KEY
from roundhouse_operator.commands.exits import SUCCESS, USAGE_ERROR, Commands, complain

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def add(commands: Commands) -> None:
    key = commands.add_parser("key", help="make API keys for the gateway")
    actions = key.add_subparsers(dest="action", required=True)
    create = actions.add_parser(
        "create",
        help="print a Secret to apply, and the key that opens it",
        description="Prints a Secret of type roundhouse.dev/api-key on standard output, to be applied in the "
        "namespace that the gateway reads keys from, and the key on standard error, this once.",
    )
    create.add_argument("--name", required=True, help="name of the Secret, and of the key in lists")
    create.add_argument(
        "--scope",
        action="append",
        choices=[scope.value for scope in Scope],
        help="what it may be used for; may be repeated; default: everything",
    )
    create.add_argument(
        "--model",
        action="append",
        metavar="ID",
        help="a model that it may use, `*` stands for anything; may be repeated; default: all",
    )
    create.add_argument("--requests-per-minute", type=int, metavar="N")
    create.add_argument("--max-concurrent", type=int, metavar="N", help="most requests at once")
    create.add_argument(
        "--expires-at", type=_moment, metavar="TIME", help="such as 2030-01-31T00:00:00Z; default: never"
    )
    create.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if not _NAME.fullmatch(arguments.name):
        return complain(
            f"--name {arguments.name!r} is no name of a Secret: small letters, digits, `-` and `.`, with a "
            "letter or digit at both ends",
            USAGE_ERROR,
        )
    grant = Grant(
        name=arguments.name,
        scopes=frozenset(map(Scope, arguments.scope or Scope)),
        models=tuple(arguments.model or ("*",)),
        requests_per_minute=arguments.requests_per_minute,
        max_concurrent=arguments.max_concurrent,
        expires_at=arguments.expires_at,
    )
    try:
        issued = issue(grant)
    except KeyFormatError as error:
        return complain(str(error), USAGE_ERROR)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": arguments.name},
        "type": SECRET_TYPE_API_KEY,
        "stringData": dict(issued.data),
    }
    sys.stdout.write(yaml.safe_dump(secret, sort_keys=False))
    sys.stdout.flush()
    sys.stderr.write(f"{issued.text}\n")
    return SUCCESS


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2030-01-31T00:00:00Z")
    if moment <= datetime.now(UTC):
        raise argparse.ArgumentTypeError(f"{text!r} is over already: the key would be good for nothing")
    return moment
