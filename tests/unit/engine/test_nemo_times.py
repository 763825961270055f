"""What Canary writes, with times among its words, is read whole, however well it keeps to its lessons."""

from dataclasses import dataclass

import pytest

from roundhouse_nemo.timed import read_timed

FRAME_SECONDS = 0.1


@dataclass(frozen=True)
class Case:
    id: str
    written: str
    text: str
    words: tuple[tuple[str, float, float], ...]


CASES = [
    Case(
        "as it was taught",
        "<|3|> hello <|7|><|8|> world.<|12|>",
        "hello world.",
        (("hello", 0.3, 0.7), ("world.", 0.8, 1.2)),
    ),
    Case("no times", "hello <|pnc|> world", "hello world", ()),
    Case("several words at a time", "<|3|> hello there <|7|>", "hello there", (("hello there", 0.3, 0.7),)),
    Case(
        "one number for the end and the next word's beginning",
        "<|3|> hello <|7|> world <|9|> <|12|> again <|15|>",
        "hello world again",
        (("hello", 0.3, 0.7), ("world", 0.7, 0.9), ("again", 1.2, 1.5)),
    ),
    Case("cut off", "<|3|> hello <|7|><|8|> wor", "hello wor", (("hello", 0.3, 0.7), ("wor", 0.8, 0.8))),
    Case(
        "no beginning", "hello <|3|> world <|7|>", "hello world", (("hello", 0.0, 0.3), ("world", 0.3, 0.7))
    ),
    Case("back in time", "<|9|> a <|5|><|2|> b <|3|>", "a b", (("a", 0.9, 0.9), ("b", 0.9, 0.9))),
    Case("no speech", "<|nospeech|><|3|> hm <|4|>", "", ()),
    Case("nothing", "<|3|><|7|>", "", ()),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_no_word_is_lost(case: Case) -> None:
    text, words = read_timed(case.written, FRAME_SECONDS)
    assert text == case.text
    assert [(word.text, round(word.start, 6), round(word.end, 6)) for word in words] == list(case.words)
