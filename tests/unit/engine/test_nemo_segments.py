"""The words of a window as segments: sentences where there are full stops, and phrases between pauses."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from roundhouse_engine import Word
from roundhouse_engine.errors import EngineError
from roundhouse_nemo.heard import Heard, check_language


def words(*said: tuple[str, float, float]) -> tuple[Word, ...]:
    return tuple(Word(*each) for each in said)


@dataclass(frozen=True)
class Case:
    id: str
    heard: Sequence[Word]
    segments: Sequence[tuple[float, float, str]]


LONG = [(f"w{at}", 0.5 * at, 0.5 * at + 0.4) for at in range(50)]
CASES = [
    Case(
        "full stops",
        words(("Go.", 1, 1.4), ("Now", 1.5, 1.8), ("stop.", 1.9, 2.2)),
        [(11, 11.4, " Go."), (11.5, 12.2, " Now stop.")],
    ),
    Case(
        "a pause",
        words(("go", 1, 1.4), ("on", 1.5, 1.8), ("stop", 2.7, 3.0)),
        [(11, 11.8, " go on"), (12.7, 13.0, " stop")],
    ),
    Case("too short a pause", words(("go", 1, 1.4), ("on", 1.9, 2.2)), [(11, 12.2, " go on")]),
    Case(
        "the same pause, after half a minute",
        words(*LONG, ("end", 25.4, 26)),
        [(10, 34.9, " " + " ".join(f"w{at}" for at in range(50))), (35.4, 36, " end")],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_segments_end_with_sentences_and_pauses(case: Case) -> None:
    heard = Heard(" ".join(word.text for word in case.heard), tuple(case.heard), 30.0)
    found = list(heard.segments(10.0, words=True))
    assert [(round(each.start, 6), round(each.end, 6), each.text) for each in found] == list(case.segments)
    assert [word.text for each in found for word in each.words] == [word.text for word in case.heard]


def test_where_no_blanks_part_words_nothing_is_made_of_it() -> None:
    heard = Heard("你好。再见", words(("你好。", 0, 1), ("再见", 3, 4)), 5.0)
    assert [each.text for each in heard.segments(0.0, words=False)] == [" 你好。再见"]


@pytest.mark.parametrize(("only", "asked"), [(None, "de"), ("en", None), ("en", "en")])
def test_a_language_that_may_be_the_models_is_taken(only: str | None, asked: str | None) -> None:
    check_language("m", only, asked)


def test_a_language_that_is_not_the_models_is_refused() -> None:
    with pytest.raises(EngineError, match=r"'m' understands 'en' \(english\) alone, not 'de'") as refused:
        check_language("m", "en", "de")
    assert (refused.value.problem.status, refused.value.problem.param) == (400, "language")
