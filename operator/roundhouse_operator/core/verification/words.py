"""Word error rate: in how many words a transcript differs from the text that was said."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def words(text: str) -> list[str]:
    """Without case, punctuation and ways of writing the same letter."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def word_error_percent(expected: str, heard: str) -> float:
    """Words that are missing, too many or others, in percent of those expected; it may exceed 100.

    Where no word is expected, any that is heard is an error of 100.
    """
    wanted, got = words(expected), words(heard)
    if not wanted:
        return 100.0 if got else 0.0
    return 100 * _distance(wanted, got) / len(wanted)


def _distance(wanted: list[str], got: list[str]) -> int:
    """Least number of words to take out, put in or replace (Levenshtein), a row at a time."""
    row = list(range(len(got) + 1))
    for number, word in enumerate(wanted, 1):
        diagonal, row[0] = row[0], number
        for place, other in enumerate(got, 1):
            diagonal, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, diagonal + (word != other)),
            )
    return row[-1]
