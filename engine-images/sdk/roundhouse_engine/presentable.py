"""What handlers find, in plain values that every format and every stream can say. Standard library alone."""

import math

from roundhouse_engine.formats import Segment, Word


def presentable(segment: Segment, seconds: float) -> Segment:
    """The segment in plain values that every format can say, with its times inside the recording.

    Models like to end a word after the last sample, or before it begins, to answer in numpy's numbers, and
    now and then with none. Raises `AttributeError`, `TypeError` or `ValueError` at a field of another kind.
    """

    def stretch(start: float, end: float) -> tuple[float, float]:
        if math.isnan(start) or math.isnan(end):
            raise ValueError("a segment's time is not a number")
        begin = min(max(float(start), 0.0), seconds)
        return begin, min(max(float(end), begin), seconds)

    return Segment(
        *stretch(segment.start, segment.end),
        text=plain_text(segment.text),
        words=tuple(Word(plain_text(word.text), *stretch(word.start, word.end)) for word in segment.words),
        language=segment.language and plain_text(segment.language),
        tokens=tuple(map(int, segment.tokens)),
        temperature=_measure(segment.temperature),
        avg_logprob=_measure(segment.avg_logprob),
        no_speech_prob=_measure(segment.no_speech_prob),
        speaker=segment.speaker and plain_text(segment.speaker),
    )


def _measure(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0  # JSON has no other numbers


def plain_text(text: str) -> str:
    """Halves of characters, as models that write bytes leave them, cannot be sent. Raises `TypeError`."""
    if not isinstance(text, str):
        raise TypeError(f"{text!r:.60} is no text")
    return text.encode("utf-8", "replace").decode()
