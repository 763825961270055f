"""What an answer says it has used: tokens and seconds of audio, for metrics and the access log.

OpenAI's `usage` is read in its three forms. An engine's word is taken; nothing is counted anew.
"""

from typing import Final

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """Of one answer; zero where it does not say."""

    input_tokens: int = 0
    output_tokens: int = 0
    audio_seconds: float = 0.0


NOTHING: Final = Usage()


class _Said(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float | None = None


class _Answer(msgspec.Struct):
    usage: _Said | None = None
    duration: float | None = None


_DECODER: Final = msgspec.json.Decoder(_Answer)


def read_usage(answer: bytes) -> Usage:
    """Of a whole JSON answer, or of one event of a stream; nothing where it has no `usage` that can be read.

    A transcript without `usage` has the seconds of its `duration`.
    """
    if b'"usage"' not in answer and b'"duration"' not in answer:
        return NOTHING
    try:
        found = _DECODER.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NOTHING
    said = found.usage or _Said()
    return Usage(
        input_tokens=max(0, said.prompt_tokens or said.input_tokens or 0),
        output_tokens=max(0, said.completion_tokens or said.output_tokens or 0),
        audio_seconds=max(0.0, said.seconds or found.duration or 0.0),
    )
