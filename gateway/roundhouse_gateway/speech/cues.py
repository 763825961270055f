"""Words put together to segments, for answers of engines that time words and nothing else.

Nothing is guessed: a segment begins with its first word, ends with its last, and says just these.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from roundhouse_engine.languages import UNSPACED
from roundhouse_gateway.speech.heard import Segment, Word

_ENDS: Final = (".", "?", "!", "…", "。", "？", "！")


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a segment ends at the latest: at a pause, after a time, after so much text."""

    pause_seconds: float = 0.8
    seconds: float = 7.0
    characters: int = 84


READABLE: Final = Limits()
"""Two lines of a subtitle, on screen for as long as they are read."""


def segments_of(words: Sequence[Word], language: str, limits: Limits = READABLE) -> tuple[Segment, ...]:
    return tuple(_segment(run, language) for run in _runs(words, limits))


def _runs(words: Sequence[Word], limits: Limits) -> Iterator[list[Word]]:
    run: list[Word] = []
    length = 0
    for word in words:
        text = word.word.strip()
        if run and _ends(run, length + len(text) + 1, word, limits):
            yield run
            run, length = [], 0
        run.append(word)
        length += len(text) + 1
    if run:
        yield run


def _ends(run: Sequence[Word], length: int, following: Word, limits: Limits) -> bool:
    """Whether the run is over before the word that follows; a change of speaker ends it too."""
    last = run[-1]
    return (
        following.start - last.end > limits.pause_seconds
        or following.end - run[0].start > limits.seconds
        or length > limits.characters
        or last.word.strip().endswith(_ENDS)
        or following.speaker != last.speaker
    )


def _segment(run: Sequence[Word], language: str) -> Segment:
    space = "" if language in UNSPACED else " "
    text = space.join(word.word.strip() for word in run)
    return Segment(run[0].start, run[-1].end, text, speaker=run[0].speaker, words=tuple(run))
