"""Word error rate and cosine, by cases that were worked out by hand and by properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_operator.core.verification.vectors import NoVectorError, cosine_percent, read_vector
from roundhouse_operator.core.verification.words import word_error_percent, words


@pytest.mark.parametrize(
    ("expected", "heard", "percent"),
    [
        ("go forward ten meters", "go forward ten meters", 0),
        ("go forward ten meters", "Go forward, TEN meters.", 0),
        ("go forward ten meters", "go forward then meters", 25),
        ("go forward ten meters", "go forward meters", 25),
        ("go forward ten meters", "and go forward ten meters", 25),
        ("go forward ten meters", "", 100),
        ("go", "no not at all", 400),
        ("a b c d", "b a d c", 75),
        ("don't stop", "don’t stop", 50),
        ("", "", 0),
        ("", "something", 100),
        ("ﬁve", "five", 0),
    ],
)
def test_word_errors(expected: str, heard: str, percent: float) -> None:
    assert word_error_percent(expected, heard) == pytest.approx(percent)


@pytest.mark.parametrize(
    ("text", "found"),
    [("It's 5 o'clock!", ["it's", "5", "o'clock"]), ("snake_case", ["snake", "case"]), ("…", [])],
)
def test_words(text: str, found: list[str]) -> None:
    assert words(text) == found


said = st.lists(st.sampled_from("abcd"), min_size=1, max_size=8)


@given(said, said)
def test_the_rate_is_bounded_by_what_must_differ_and_by_replacing_all(
    wanted: list[str], got: list[str]
) -> None:
    percent = word_error_percent(" ".join(wanted), " ".join(got))
    least, most = abs(len(wanted) - len(got)), max(len(wanted), len(got))
    assert 100 * least / len(wanted) <= percent + 1e-9
    assert percent <= 100 * most / len(wanted) + 1e-9
    assert (percent == 0) == (wanted == got)


@given(said, said, said)
def test_a_detour_never_shortens_the_way(one: list[str], two: list[str], three: list[str]) -> None:
    def errors(left: list[str], right: list[str]) -> float:
        return word_error_percent(" ".join(left), " ".join(right)) * len(left)

    assert errors(one, three) <= errors(one, two) + errors(two, three) + 1e-6


numbers = st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-3)
vectors = st.lists(numbers, min_size=3, max_size=3)


@given(vectors, st.floats(0.01, 100))
def test_a_vector_has_the_direction_of_its_multiples(vector: list[float], factor: float) -> None:
    assert cosine_percent(vector, [x * factor for x in vector]) == pytest.approx(100)
    assert cosine_percent(vector, [-x for x in vector]) == pytest.approx(-100)


@given(vectors, vectors)
def test_the_cosine_knows_no_order_and_no_more_than_all(one: list[float], other: list[float]) -> None:
    assert math.isclose(cosine_percent(one, other), cosine_percent(other, one), abs_tol=1e-9)
    assert -100.0001 <= cosine_percent(one, other) <= 100.0001


@pytest.mark.parametrize("text", ["", "{}", "[]", '["a"]', "[1, NaN]", "[true]", "[[1]]"])
def test_what_is_no_vector_is_said(text: str) -> None:
    with pytest.raises(NoVectorError):
        read_vector(text)


def test_vectors_of_different_spaces_are_not_compared() -> None:
    with pytest.raises(NoVectorError, match="2 dimensions, and 3 are expected"):
        cosine_percent([1, 2, 3], [1, 2])
    with pytest.raises(NoVectorError, match="zero"):
        cosine_percent([0, 0], [1, 2])
