"""What handlers find, in plain values that every format and every stream can say. Standard library alone."""

import math

from roundhouse_engine.formats import Segment, Word


def presentable(segment: Segment, seconds: float) -> Segment:
    """The segment in plain values that every format can say, with its times inside the recording.

    Models like to end a word after the last sample, to answer in numpy's numbers, and now and then with none.
    """

    def clamp(time: float) -> float:
        if math.isnan(time):
            raise ValueError("a segment's time is not a number")
        return min(max(float(time), 0.0), seconds)

    return Segment(
        start=clamp(segment.start),
        end=clamp(segment.end),
        text=plain_text(segment.text),
        words=tuple(
            Word(plain_text(word.text), clamp(word.start), clamp(word.end)) for word in segment.words
        ),
        language=segment.language,
        tokens=tuple(map(int, segment.tokens)),
        temperature=_measure(segment.temperature),
        avg_logprob=_measure(segment.avg_logprob),
        no_speech_prob=_measure(segment.no_speech_prob),
        speaker=segment.speaker and plain_text(segment.speaker),
    )


def _measure(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0  # JSON has no other numbers


def plain_text(text: str) -> str:
    """Halves of characters, as models that write bytes leave them, cannot be sent."""
    return text.encode("utf-8", "replace").decode()
