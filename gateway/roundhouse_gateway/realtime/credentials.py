"""Where a WebSocket's client has put its key: browsers can send no header but the subprotocols.

In this order: `Authorization: Bearer`, `xi-api-key`, `X-API-Key`, subprotocol `openai-insecure-api-key.…`,
the query's `api_key`, the query's `token`. A token stands for the key that asked for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from starlette.types import Scope

from roundhouse_gateway.guard import presented

KEY_SUBPROTOCOL: Final = "openai-insecure-api-key."
SUBPROTOCOL: Final = "realtime"
KEY_PARAMETER: Final = "api_key"
TOKEN_PARAMETER: Final = "token"  # noqa: S105 - the name of a parameter
_SECRET: Final = frozenset({KEY_PARAMETER, TOKEN_PARAMETER})

Query = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """`text` is a key or a token, empty where none was sent. `query` is without either."""

    text: str
    query: Query
    subprotocol: str | None
    """What to agree to; None where nothing known was offered."""


def credentials(scope: Scope) -> Credentials:
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    offered = scope.get("subprotocols", [])
    headers = dict(scope["headers"])
    found = (
        presented(scope["headers"]),
        headers.get(b"x-api-key", b"").decode("latin-1").strip(),
        next((each[len(KEY_SUBPROTOCOL) :] for each in offered if each.startswith(KEY_SUBPROTOCOL)), ""),
        *(query.get(name, [""])[0] for name in (KEY_PARAMETER, TOKEN_PARAMETER)),
    )
    return Credentials(
        next(filter(None, found), ""),
        {name: values for name, values in query.items() if name not in _SECRET},
        SUBPROTOCOL if SUBPROTOCOL in offered else None,
    )
