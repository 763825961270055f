"""An engine's answer on its way to the client: which headers pass, errors in one shape, bytes untouched."""

import http
from typing import Any

import aiohttp
import msgspec
from starlette.types import Send

from roundhouse_gateway.errors import (
    CLOSE,
    BrokenAnswerError,
    EngineAnsweredError,
    EngineFailedError,
    GatewayError,
    Headers,
    envelope,
)

MAX_ERROR_BYTES = 64 * 1024
# Hop by hop, or the gateway's own to say.
_STOPPED = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"server",
        b"date",
        b"set-cookie",
        b"x-request-id",
    }
)
_OF_THE_BODY = frozenset({b"content-type", b"content-length", b"content-encoding"})
_OWN_PREFIX = b"x-roundhouse-"
_KEYS = frozenset({"message", "type", "param", "code"})
# What these statuses of an engine mean is for the gateway's operator to mend, not for the client.
_ENGINE_AT_FAULT = frozenset({401, 403, 404, 405, 407})


async def relay(response: aiohttp.ClientResponse, model: str, send: Send, *, keep_alive: bool) -> None:
    """Sends the engine's answer; without `keep_alive` the client's connection ends with it.

    Before anything is sent it may raise `EngineAnsweredError`, the engine's own error, or
    `EngineFailedError`; after that `BrokenAnswerError`.
    """
    if response.status >= 400:
        raise await _read_error(response, model)
    headers = _passing(response) if keep_alive else [*_passing(response), CLOSE]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    try:
        async for chunk in response.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise BrokenAnswerError(f"engine '{model}' broke off in its answer: {error!r}") from error
    await send({"type": "http.response.body", "body": b""})


async def _read_error(response: aiohttp.ClientResponse, model: str) -> GatewayError:
    try:
        body = await _read_bounded(response)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return EngineFailedError(f"Engine '{model}' broke off in its answer.")
    given = _error_of(body)
    if given is None and response.status in _ENGINE_AT_FAULT:
        return EngineFailedError(f"Engine '{model}' refused the gateway's request: {response.status}.")
    if given is None or not given.keys() >= _KEYS:
        body = _shaped(response.status, body, given or {})
    headers = [(name, value) for name, value in _passing(response) if name not in _OF_THE_BODY]
    return EngineAnsweredError(response.status, headers, body)


def _passing(response: aiohttp.ClientResponse) -> Headers:
    named = {name.strip().lower().encode() for name in response.headers.get("connection", "").split(",")}
    stopped = _STOPPED | named
    lowered = [(name.lower(), value) for name, value in response.raw_headers]
    return [each for each in lowered if each[0] not in stopped and not each[0].startswith(_OWN_PREFIX)]


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            return body[:MAX_ERROR_BYTES]
    return body


def _error_of(body: bytes) -> dict[str, Any] | None:
    """The `error` of an answer that has OpenAI's shape, whole or in part."""
    try:
        error = msgspec.json.decode(body, type=dict[str, Any]).get("error")
    except (msgspec.DecodeError, RecursionError):
        return None
    return error if isinstance(error, dict) and isinstance(error.get("message"), str) else None


def _shaped(status: int, body: bytes, given: dict[str, Any]) -> bytes:
    """The engine's words in the envelope; where it has none that can be shown, the name of the status."""
    message = given.get("message") or _detail_of(body) or f"The engine answered {_phrase(status)}."
    kind = given.get("type") or ("invalid_request_error" if status < 500 else "upstream_error")
    return envelope(message, kind, given.get("param"), given.get("code"))


def _detail_of(body: bytes) -> str | None:
    """FastAPI's own shape."""
    try:
        detail = msgspec.json.decode(body, type=dict[str, Any]).get("detail")
    except (msgspec.DecodeError, RecursionError):
        return None
    return detail if isinstance(detail, str) else None


def _phrase(status: int) -> str:
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
