"""What an answer says it has used: tokens and seconds of audio, for metrics and the access log.

OpenAI's `usage` is read in its three forms. An engine's word is taken; nothing is counted anew.
"""

import math
from typing import Final

import msgspec

AUDIO_SECONDS_HEADER: Final = "X-Roundhouse-Audio-Seconds"
"""How long the recording was, in every format, and exact where `usage` is rounded."""


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
    total_tokens: int | None = None
    seconds: float | None = None


class _Answer(msgspec.Struct):
    usage: _Said | None = None
    duration: float | None = None


_SILENCE: Final = _Said()
_DECODER: Final = msgspec.json.Decoder(_Answer)
_OF_MEMBER: Final = msgspec.json.Decoder(_Said)


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
    return _usage(found.usage or _SILENCE, found.duration)


def read_member(said: bytes) -> Usage:
    """Of the value of `usage` alone."""
    try:
        return _usage(_OF_MEMBER.decode(said))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NOTHING


def with_seconds(usage: Usage, header: str | None) -> Usage:
    """The same with the seconds of audio that the engine's header tells, where it has a good one."""
    try:
        seconds = float(header or "")
    except ValueError:
        return usage
    if not math.isfinite(seconds) or seconds < 0:
        return usage
    return Usage(usage.input_tokens, usage.output_tokens, seconds)


def _usage(said: _Said, duration: float | None = None) -> Usage:
    output_tokens = said.completion_tokens or said.output_tokens or 0
    # Rerank has no more than a total, of some engines.
    tokens = (
        said.prompt_tokens or said.input_tokens or (said.total_tokens or 0) - output_tokens,
        output_tokens,
    )
    seconds = said.seconds or duration or 0.0
    if tokens[0] < 0 or tokens[1] < 0 or seconds < 0:
        return Usage(max(0, tokens[0]), max(0, tokens[1]), max(0.0, seconds))
    return Usage(*tokens, seconds)
