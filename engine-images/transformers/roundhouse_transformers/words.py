"""Tokens to words: which belong together, in languages with spaces between words and without. Pure."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from roundhouse_engine.languages import UNSPACED

_HALF: Final = "\ufffd"
"""What bytes become that are no whole character."""
_STRAIGHT: Final = ('"', "'", "-")
"""What opens after a blank and closes else."""


@dataclass(frozen=True, slots=True)
class Spelled:
    """A word, and the places of its first token and of the one after its last."""

    text: str
    first: int
    end: int


def spell(tokens: Sequence[int], decode: Callable[[list[int]], str], language: str | None) -> list[Spelled]:
    """The words of a text, with the signs that stand at them; `decode` makes text of tokens."""
    spaced = language not in UNSPACED
    words: list[Spelled] = []
    opens = False
    for piece in _characters(tokens, decode):
        bare = piece.text.strip()
        begins = piece.text[:1].isspace() if spaced else not _is_sign(bare)
        if words and (opens or not bare or not (begins or _opens(bare))):
            before = words.pop()
            words.append(Spelled(before.text + piece.text, before.first, piece.end))
        else:
            words.append(piece)
        opens = _opens(bare) or (spaced and begins and bare in _STRAIGHT)
    return [word for word in words if word.text.strip()]


def _characters(tokens: Sequence[int], decode: Callable[[list[int]], str]) -> list[Spelled]:
    """The shortest runs of tokens that are whole characters; of the last one, whatever there is."""
    found: list[Spelled] = []
    first = 0
    for end in range(1, len(tokens) + 1):
        text = decode(list(tokens[first:end]))
        if not text.endswith(_HALF) or end == len(tokens):
            found.append(Spelled(text, first, end))
            first = end
    return found


def _is_sign(text: str) -> bool:
    return all(unicodedata.category(each)[0] in "PS" for each in text)


def _opens(text: str) -> bool:
    """Brackets and quotation marks that belong to what follows."""
    return bool(text) and all(unicodedata.category(each) in ("Ps", "Pi") for each in text)
