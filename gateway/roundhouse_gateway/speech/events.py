"""Streams of transcripts: server-sent events read, and what the events of each dialect say.

A `Reader` turns the data of one event into what it tells. What a client is sent is left to `answer`.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from roundhouse_gateway.errors import EngineFailedError

MAX_EVENT_BYTES: Final = 1 << 20
_DONE: Final = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Told:
    """What one event tells. `loose`: a piece that stands for itself, to be set off by a space.

    `text` is the whole text, where the engine says it at the end.
    """

    delta: str = ""
    loose: bool = False
    text: str | None = None
    usage: dict[str, Any] | None = None
    ends: bool = False
    error: dict[str, Any] | None = None


Reader = Callable[[bytes], Told]
"""Raises `ValueError` for what is no event of its dialect."""


async def data_of(chunks: AsyncIterable[bytes], model: str) -> AsyncIterator[bytes]:
    """The data of each server-sent event, however its bytes are cut; comments and other fields are left out.

    An event that is not ended by an empty line is none, as the standard has it.
    """
    rest, lines = b"", list[bytes]()
    async for chunk in chunks:
        # A lone carriage return at the end may be half of a line's end.
        whole = (rest + chunk).replace(b"\r\n", b"\n")
        *complete, rest = whole.split(b"\n")
        for line in complete:
            if line.startswith(b"data:"):
                lines.append(line[5:].removeprefix(b" "))
            elif not line and lines:
                yield b"\n".join(lines)
                lines.clear()
        if len(rest) + sum(map(len, lines)) > MAX_EVENT_BYTES:
            raise EngineFailedError(f"Engine '{model}' sent an event of more than {MAX_EVENT_BYTES} bytes.")


def read_openai(data: bytes) -> Told:
    """`transcript.text.delta` and `.done`; LocalAI and others add `[DONE]`, which says nothing more."""
    if data == _DONE:
        return Told()
    match _decode(data):
        case {"error": error}:
            return _failed(error)
        case {"type": "transcript.text.delta", "delta": str(delta)}:
            return Told(delta)
        case {"type": "transcript.text.done", "text": str(text), **rest}:
            usage = rest.get("usage")
            return Told(text=text, usage=usage if isinstance(usage, dict) else None, ends=True)
        case _:
            return Told()


def read_speaches(data: bytes) -> Told:
    """OpenAI's events, or one `{"text"}` for each segment and nothing at the end."""
    event = _decode(data) if data != _DONE else {}
    if "type" not in event and isinstance(text := event.get("text"), str):
        return Told(text, loose=True)
    return read_openai(data)


def read_vllm(data: bytes) -> Told:
    """`transcription.chunk`s in the shape of a chat's, then one with the usage alone, then `[DONE]`."""
    if data == _DONE:
        return Told(ends=True)
    event = _decode(data)
    if "error" in event:
        return _failed(event["error"])
    try:
        delta = "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no transcription.chunk: {data[:200]!r}") from error
    return Told(delta, usage=_usage_of_vllm(event.get("usage")))


def _usage_of_vllm(usage: object) -> dict[str, Any] | None:
    match usage:
        case {"prompt_tokens": int(prompt), "completion_tokens": int(completion), "total_tokens": int(total)}:
            counts = {"input_tokens": prompt, "output_tokens": completion, "total_tokens": total}
            return {"type": "tokens", **counts}
        case _:
            return None


def _decode(data: bytes) -> dict[str, Any]:
    """Raises `ValueError`; so does msgspec."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no event of a transcript: {data[:200]!r}") from error


def _failed(error: object) -> Told:
    said = error if isinstance(error, dict) else {"message": error}
    kind, param = said.get("type"), said.get("param")
    return Told(
        error={
            "message": str(said.get("message") or "The engine failed."),
            "type": kind if isinstance(kind, str) else "upstream_error",
            "param": param if isinstance(param, str) else None,
            "code": None if said.get("code") is None else str(said["code"]),
        }
    )
