"""Reads what Canary writes: words, with the numbers of the frames where they begin and end among them.

It writes them as it has learnt to, and may leave one out or stop in the middle: no word is lost for that.
"""

import re
from typing import Final

from roundhouse_engine import Word

_TIME: Final = re.compile(r"<\|(\d+)\|>")
_SPECIAL: Final = re.compile(r"<\|[^|]*\|>")
_NO_SPEECH: Final = "<|nospeech|>"


def read_timed(text: str, frame_seconds: float) -> tuple[str, tuple[Word, ...]]:
    """The words alone, and each with its times, one after the other; without numbers there are no times.

    What has no number before it begins where the last one ended, what has none after it ends where it began.
    """
    if _NO_SPEECH in text:
        return "", ()
    said, numbers = _TIME.split(text)[::2], [int(each) for each in _TIME.findall(text)]
    words: list[Word] = []
    at = 0.0
    for place, part in enumerate(said if numbers else ()):
        if word := _plain(part):
            start = max(numbers[place - 1] * frame_seconds if place else at, at)
            at = max(numbers[place] * frame_seconds if place < len(numbers) else start, start)
            words.append(Word(word, start, at))
    return _plain(text), tuple(words)


def _plain(text: str) -> str:
    return " ".join(_SPECIAL.sub(" ", text).split())
