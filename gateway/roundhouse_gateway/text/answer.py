"""An engine's answer on its way to the client of a JSON route.

Bytes pass as they are where they can. A stream of events passes frame by frame, and where the engine breaks
off in it, a last frame says so in OpenAI's shape: clients raise that as an error of their own.
"""

import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from starlette.types import Send

from roundhouse_api.enums import RouteName
from roundhouse_gateway.access import OPEN, Access
from roundhouse_gateway.errors import BrokenAnswerError, EngineFailedError, GatewayError, Headers
from roundhouse_gateway.relay import MAX_ERROR_BYTES, engine_error
from roundhouse_gateway.text.answer_head import OF_LENGTH
from roundhouse_gateway.text.frames import Frames
from roundhouse_gateway.text.incoming import BrokenOffError, Incoming
from roundhouse_gateway.text.request import TextRequest
from roundhouse_gateway.text.rerank import answer_for
from roundhouse_gateway.text.usage import UsageReader
from roundhouse_gateway.text.vectors import MAX_BYTES, converted, is_in_form

_UNBUFFERED: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request shapes its answer."""

    route: RouteName
    path: str
    request: TextRequest
    request_id: str
    model: str
    access: Access = OPEN


async def relay(asked: Asked, incoming: Incoming, send: Send, seen: UsageReader) -> None:
    """Sends the whole answer, and shows it to `seen`.

    Before anything is sent it may raise the engine's own error or `EngineFailedError`; after that
    `BrokenAnswerError`.
    """
    reply = incoming.reply
    if not reply.head.is_good:
        raise await _error(asked, incoming)
    if reply.head.is_event_stream:
        await _stream(asked, incoming, send, seen)
    elif asked.route is RouteName.RERANK:

        async def ranked(body: bytes) -> bytes:
            made = await answer_for(asked.path, asked.model, asked.request_id, body, asked.request)
            seen.see(made)  # in which it stands at the end, wherever the engine has it
            return made

        await _convert(asked, incoming, send, ranked)
    else:
        await _pass(asked, incoming, send, seen)


def stream_headers(headers: Headers) -> Headers:
    """So that nothing between here and the client keeps frames back, and none is missing at the end."""
    kept = [each for each in headers if each[0] != OF_LENGTH]
    names = {name for name, _ in kept}
    return [*kept, *(each for each in _UNBUFFERED if each[0] not in names)]


def broke_off(model: str) -> EngineFailedError:
    return EngineFailedError(f"Engine '{model}' broke off in its answer.")


async def _error(asked: Asked, incoming: Incoming) -> GatewayError:
    try:
        body = await incoming.everything(MAX_ERROR_BYTES)
    except BrokenOffError:
        return broke_off(asked.model)
    reply = incoming.reply
    return engine_error(reply.status, asked.model, reply.headers, body, asked.access)


async def _pass(asked: Asked, incoming: Incoming, send: Send, seen: UsageReader) -> None:
    first = await _more(asked, incoming)
    if asked.route is RouteName.EMBEDDINGS:
        while (fits := is_in_form(first, asked.request.encoding)) is None and not incoming.whole:
            if not (more := await _more(asked, incoming)):
                break
            first += more
        if fits is False:

            async def in_form(body: bytes) -> bytes:
                seen.see(body)
                return await converted(body, asked.request.encoding)

            await _convert(asked, incoming, send, in_form, first)
            return
    headers = incoming.reply.head.passing
    if incoming.whole and all(name != OF_LENGTH for name, _ in headers):
        first += incoming.reply.take()
        headers = [*headers, (OF_LENGTH, b"%d" % len(first))]
    await send({"type": "http.response.start", "status": incoming.reply.status, "headers": headers})
    try:
        while first:
            seen.see(first)
            last = incoming.whole and not incoming.reply.parts
            await send({"type": "http.response.body", "body": first, "more_body": not last})
            if last:
                return
            first = await incoming.piece()
    except BrokenOffError as error:
        raise BrokenAnswerError(f"engine '{asked.model}' broke off in its answer: {error}") from error
    await send({"type": "http.response.body", "body": b""})


async def _stream(asked: Asked, incoming: Incoming, send: Send, seen: UsageReader) -> None:
    frames = Frames()
    headers = stream_headers(incoming.reply.head.passing)
    first = await _more(asked, incoming)
    await send({"type": "http.response.start", "status": incoming.reply.status, "headers": headers})
    try:
        while first:
            if ready := asked.access.blotted(frames.feed(first)):
                seen.see(ready)
                await send({"type": "http.response.body", "body": ready, "more_body": True})
            first = await incoming.piece()
        last = asked.access.blotted(frames.rest())
    except BrokenOffError:
        last = frames.broken(broke_off(asked.model))
    await send({"type": "http.response.body", "body": last})


async def _convert(
    asked: Asked,
    incoming: Incoming,
    send: Send,
    change: Callable[[bytes], Awaitable[bytes]],
    before: bytes = b"",
) -> None:
    try:
        body = await change(before + await incoming.everything(MAX_BYTES))
    except BrokenOffError as error:
        raise broke_off(asked.model) from error
    except (msgspec.DecodeError, struct.error, KeyError, IndexError, ValueError) as error:
        raise EngineFailedError(
            f"Engine '{asked.model}' answered what is no answer to this request: {error}."
        ) from error
    headers = [each for each in incoming.reply.head.passing if each[0] != OF_LENGTH]
    headers.append((OF_LENGTH, b"%d" % len(body)))
    await send({"type": "http.response.start", "status": incoming.reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _more(asked: Asked, incoming: Incoming) -> bytes:
    """A piece that is waited for before anything is sent: an engine that has none may still be replaced."""
    try:
        return await incoming.piece()
    except BrokenOffError as error:
        raise broke_off(asked.model) from error
