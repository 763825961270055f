"""An engine's answer on its way to the client: which headers pass, errors in one shape, bytes untouched."""

import http
import re
from collections.abc import Iterable
from typing import Any, Final

import aiohttp
import msgspec
from starlette.types import Send

from roundhouse_gateway.access import OPEN, Access, Blotter
from roundhouse_gateway.errors import (
    CLOSE,
    BrokenAnswerError,
    EngineAnsweredError,
    EngineFailedError,
    GatewayError,
    Headers,
    envelope,
)

EVENT_STREAM: Final = "text/event-stream"
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
OF_THE_BODY = frozenset({b"content-type", b"content-length", b"content-encoding"})
# The gateway's own to say, of itself and of the origins that may ask it.
_OWN_PREFIXES = (b"x-roundhouse-", b"access-control-")
# Such bytes have no place in a header, and the server refuses to write them.
_CONTROL_CHARACTERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Any])
# What these statuses of an engine mean is for the gateway's operator to mend, not for the client.
_ENGINE_AT_FAULT = frozenset({401, 403, 404, 405, 407})
_WRONG_KEY: Final = "The key that its Engine names in `upstream.apiKeySecretRef` may be wrong."


async def relay(
    response: aiohttp.ClientResponse, model: str, send: Send, *, keep_alive: bool, access: Access = OPEN
) -> None:
    """Sends the engine's answer but for its end; without `keep_alive` the client's connection ends with it.

    Before anything is sent it may raise `EngineAnsweredError`, the engine's own error, or
    `EngineFailedError`; after that `BrokenAnswerError`.
    """
    if not 200 <= response.status < 300:
        raise await read_error(response, model, access)
    headers = passing(response) if keep_alive else [*passing(response), CLOSE]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    blotter = Blotter(access)
    try:
        async for chunk in response.content.iter_any():
            if passing_on := blotter.feed(chunk):
                await send({"type": "http.response.body", "body": passing_on, "more_body": True})
        if rest := blotter.rest():
            await send({"type": "http.response.body", "body": rest, "more_body": True})
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise BrokenAnswerError(f"engine '{model}' broke off in its answer: {error!r}") from error


async def read_error(response: aiohttp.ClientResponse, model: str, access: Access = OPEN) -> GatewayError:
    if _is_engine_at_fault(response.status):
        return engine_error(response.status, model, (), b"", access)
    try:
        body = await _read_bounded(response)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return EngineFailedError(f"Engine '{model}' broke off in its answer.")
    return engine_error(response.status, model, response.raw_headers, body, access)


def engine_error(
    status: int, model: str, headers: Iterable[tuple[bytes, bytes]], body: bytes, access: Access = OPEN
) -> GatewayError:
    """The engine's refusal; a redirect, a change of protocol and a made-up status are no answers at all.

    What an upstream says of the gateway's own key, as some do in full, is not handed on.
    """
    if _is_engine_at_fault(status):
        about = f"Engine '{model}' refused the gateway's request: {status}."
        keyed = status == 401 and access.key
        return EngineFailedError(f"{about} {_WRONG_KEY}" if keyed else about)
    passed = ((name, access.blotted(value)) for name, value in passing_headers(headers))
    kept = [(name, value) for name, value in passed if name not in OF_THE_BODY]
    return EngineAnsweredError(status, kept, _shaped(status, access.blotted(body)))


def is_fault(status: int, *, reasoned: bool) -> bool:
    """Whether an engine answers that it has failed. `reasoned`: it says why it takes none, or until when."""
    match status:
        case http.HTTPStatus.NOT_IMPLEMENTED:
            return False  # which another request may not meet
        case http.HTTPStatus.SERVICE_UNAVAILABLE:
            return not reasoned
        case _:
            return status >= 500


def _is_engine_at_fault(status: int) -> bool:
    return status in _ENGINE_AT_FAULT or not 400 <= status < 600


def passing(response: aiohttp.ClientResponse) -> Headers:
    """The headers of an engine's answer that its client gets to see."""
    return passing_headers(response.raw_headers)


def passing_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The same of headers as they came; names become lower case."""
    lowered = [(name.lower(), value) for name, value in headers]
    stopped = _STOPPED
    for name, value in lowered:
        if name == b"connection":
            stopped |= {each.strip().lower() for each in value.split(b",")}
    return [
        (name, value)
        for name, value in lowered
        if name not in stopped
        and not name.startswith(_OWN_PREFIXES)
        and not _CONTROL_CHARACTERS.search(value)
    ]


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            return body[:MAX_ERROR_BYTES]
    return body


def _shaped(status: int, body: bytes) -> bytes:
    """The engine's words in the envelope; where it has none that can be shown, the name of the status."""
    said = _error_of(body)
    kind = _text(said.get("type")) or ("invalid_request_error" if status < 500 else "upstream_error")
    message = _text(said.get("message")) or f"The engine answered {_phrase(status)}."
    return envelope(message, kind, _text(said.get("param")), _text(said.get("code")))


def _error_of(body: bytes) -> dict[str, Any]:
    """What an error body says: OpenAI's `error`, an `error` or `detail` that is a text, or its own keys."""
    try:
        said = _MEMBERS.decode(_in_utf8(body))
    except (msgspec.DecodeError, RecursionError):
        return {}
    match said:
        case {"error": dict(members)}:
            return members
        case {"error": str(message)} | {"detail": str(message)}:
            return {"message": message}
        case _:
            return said


def _in_utf8(body: bytes) -> bytes:
    """Some engines write their words in Latin-1, which has a character for each byte."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return body.decode("latin-1").encode()
    return body


def _text(value: object) -> str | None:
    """Some engines give codes as numbers."""
    return str(value) if type(value) in (str, int) and value != "" else None


def _phrase(status: int) -> str:
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
