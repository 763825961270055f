"""`POST /v1/realtime/client_secrets` and `POST /v1/single-use-token/{type}`: keys for a moment.

A server asks with its own key; what it gets stands for that key, until it expires or the key is revoked.
"""

from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from roundhouse_gateway.error_shapes import SINGLE_USE_TOKENS
from roundhouse_gateway.errors import ClientGoneError, GatewayError, InvalidRequestError, RouteNotFoundError
from roundhouse_gateway.exchange import EXCHANGE, Exchange
from roundhouse_gateway.json_words import wrong_in
from roundhouse_gateway.media_types import check_json
from roundhouse_gateway.realtime import openai_config
from roundhouse_gateway.realtime.openai_config import Config
from roundhouse_gateway.realtime.tokens import CLIENT_SECRET, SINGLE_USE, Tokens, make
from roundhouse_gateway.refusal import refuse
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.upload import Upload

CLIENT_SECRETS: Final = "/v1/realtime/client_secrets"
_BODY_BYTES: Final = 64 << 10
_SECONDS: Final = (10, 7200)
_DEFAULT_SECONDS: Final = 600
_SINGLE_USE_SECONDS: Final = 900


class _ExpiresAfter(msgspec.Struct):
    seconds: int = _DEFAULT_SECONDS


class _Wanted(msgspec.Struct):
    expires_after: _ExpiresAfter | None = None
    session: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Secrets:
    """Both routes, as an ASGI application."""

    settings: Settings
    tokens: Tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        upload = Upload(
            receive,
            limit_bytes=_BODY_BYTES,
            idle_seconds=self.settings.client_idle_seconds,
            least_rate=self.settings.upload_bytes_per_second,
        )
        try:
            exchange.route = scope["path"]
            if scope["path"] == CLIENT_SECRETS:
                check_json(scope["headers"])
            body = b"".join([piece async for piece in upload.chunks()])
            answer = msgspec.json.encode(await self._answer(scope["path"], body, exchange.key_id))
        except ClientGoneError:
            exchange.client_left()
            return
        except GatewayError as error:
            await refuse(error, upload, exchange, send)
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"content-length", b"%d" % len(answer)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, path: str, body: bytes, key_id: str) -> dict[str, Any]:
        if path == SINGLE_USE_TOKENS:
            made = await make(self.tokens, SINGLE_USE, key_id, _SINGLE_USE_SECONDS, {})
            return {"token": made.text}
        if path != CLIENT_SECRETS:
            raise RouteNotFoundError(f"There is no token for {path!r}.")
        wanted = _wanted(body)
        session = wanted.session or {}
        config = openai_config.updated(Config(), session)
        seconds = wanted.expires_after.seconds if wanted.expires_after else _DEFAULT_SECONDS
        if not _SECONDS[0] <= seconds <= _SECONDS[1]:
            raise InvalidRequestError(
                f"`expires_after.seconds` must be from {_SECONDS[0]} to {_SECONDS[1]}, not {seconds}.",
                param="expires_after.seconds",
            )
        made = await make(self.tokens, CLIENT_SECRET, key_id, seconds, session)
        shown = {"id": f"sess_{token_hex(10)}", **config.shown()}
        return {"value": made.text, "expires_at": int(made.expires), "session": shown}


def _wanted(body: bytes) -> _Wanted:
    try:
        return msgspec.json.decode(body or b"{}", type=_Wanted)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"The body is not what it should be: {wrong_in(error).message}.") from error
