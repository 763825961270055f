"""Tokens to words, as the transformers engine spells them for the times of words."""

from dataclasses import dataclass

import pytest

from roundhouse_transformers.words import spell


@dataclass(frozen=True)
class Case:
    id: str
    language: str
    tokens: tuple[str, ...]
    words: tuple[tuple[str, int, int], ...]


CASES = [
    Case("a word of two", "en", (" hel", "lo", " you"), ((" hello", 0, 2), (" you", 2, 3))),
    Case("signs at words", "en", (' "', "Oh", ",", '"', " no", "!"), ((' "Oh,"', 0, 4), (" no!", 4, 6))),
    Case("brackets", "en", (" (", "so", ")", " it", "'s"), ((" (so)", 0, 3), (" it's", 3, 5))),
    Case("a dash alone", "en", (" one", " -", " two"), ((" one", 0, 1), (" - two", 1, 3))),
    Case(
        "no blanks", "zh", ("你好", "，", "世", "界", "。"), (("你好，", 0, 2), ("世", 2, 3), ("界。", 3, 5))
    ),
    Case("it opens", "ja", ("「", "はい", "」", "と"), (("「はい」", 0, 3), ("と", 3, 4))),
    Case("bytes of one sign", "ja", ("e697", "a5"), (("日", 0, 2),)),
    Case("half a sign at the end", "ja", ("e697",), (("\ufffd", 0, 1),)),
    Case("nothing", "en", (), ()),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_tokens_become_words(case: Case) -> None:
    def decode(numbers: list[int]) -> str:
        parts = [case.tokens[number] for number in numbers]
        bytewise = all(part in {"e697", "a5"} for part in parts)
        data = bytes.fromhex("".join(parts)) if bytewise else "".join(parts).encode()
        return data.decode(errors="replace")

    found = spell(range(len(case.tokens)), decode, case.language)
    assert [(word.text, word.first, word.end) for word in found] == list(case.words)
