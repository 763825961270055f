"""A client's audio out of its JSON, on its way to an engine."""

import binascii
from typing import Final

from roundhouse_api.realtime import Clear, End, Flush, write
from roundhouse_gateway.errors import InvalidRequestError
from roundhouse_gateway.realtime.engine_socket import EngineSocket

_PIECE_BYTES: Final = 256 << 10
"""Engines take a MiB at once; smaller ones let other sessions have their turn in between."""


def decoded(text: str, param: str) -> bytes:
    """Audio from base64; raises `InvalidRequestError`."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(f"`{param}` is not base64: {error}.", param=param) from error


async def send_audio(engine: EngineSocket, audio: bytes) -> None:
    for start in range(0, len(audio), _PIECE_BYTES):
        await engine.send_bytes(audio[start : start + _PIECE_BYTES])


async def flush(engine: EngineSocket, name: str) -> None:
    await engine.send_str(write(Flush(type="flush", id=name)))


async def clear(engine: EngineSocket) -> None:
    await engine.send_str(write(Clear(type="clear")))


async def finish(engine: EngineSocket) -> None:
    await engine.send_str(write(End(type="end")))
