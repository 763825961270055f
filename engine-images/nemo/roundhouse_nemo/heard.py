"""What a window says, and how that is parted into segments: at full stops, and where a speaker pauses.

Also in which language, where that is known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from roundhouse_engine import Segment, Word
from roundhouse_engine.errors import invalid
from roundhouse_engine.languages import english_name

_ENDS_A_SENTENCE: Final = (".", "?", "!", "。", "？", "！")

# A pause between words that ends a segment which has just begun; the longer it is, the shorter will do.
_PAUSE_SECONDS: Final = 0.8
_SHORT_PAUSE_SECONDS: Final = 0.25
_LONG_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Heard:
    """What a window of so many `seconds` says; times from its start. Words without times are left out."""

    text: str
    words: tuple[Word, ...]
    seconds: float = 0.0
    language: str | None = None

    def segments(self, start: float, *, words: bool) -> Iterator[Segment]:
        """Its sentences, where the model writes full stops, and phrases between pauses.

        Times are from the start of the recording.
        """
        for sentence, text in self._sentences():
            moved = tuple(Word(word.text, start + word.start, start + word.end) for word in sentence)
            said = moved if words else ()
            yield Segment(moved[0].start, moved[-1].end, " " + text, said, self.language)
        if self.text and not self.words:
            yield Segment(start, start + self.seconds, " " + self.text, (), self.language)

    def _sentences(self) -> Iterator[tuple[Sequence[Word], str]]:
        if not self.words:
            return
        cuts = [0]
        for at, (word, following) in enumerate(pairwise(self.words), 1):
            if word.text.endswith(_ENDS_A_SENTENCE) or _is_pause(self.words[cuts[-1]], word, following):
                cuts.append(at)
        parts = [self.words[begin:end] for begin, end in pairwise([*cuts, len(self.words)])]
        texts = [" ".join(word.text for word in part) for part in parts]
        if " ".join(texts) == self.text:
            yield from zip(parts, texts, strict=True)
        else:  # a language that is written without blanks
            yield self.words, self.text


def _is_pause(first: Word, word: Word, following: Word) -> bool:
    """Whether a segment that begins with `first` ends with `word`."""
    part = min((word.end - first.start) / _LONG_SECONDS, 1.0)
    return following.start - word.end >= _PAUSE_SECONDS - part * (_PAUSE_SECONDS - _SHORT_PAUSE_SECONDS)


def check_language(name: str, only: str | None, asked: str | None) -> None:
    """Raise `EngineError` where a model whose `only` language is known is asked for another."""
    if only is not None and asked not in (None, only):
        raise invalid(
            f"The model {name!r} understands {only!r} ({english_name(only)}) alone, not {asked!r}.",
            param="language",
            code="unsupported_value",
        )
