"""Documents that are longer than a model takes are ranked by how they begin."""

import numpy as np
import pytest
from typing_extensions import override

from roundhouse_engine.cutting import cut_pair
from roundhouse_engine.errors import EngineError
from tests.conformance.engine.text_handlers import LIMIT, Vectors

WORDS = " ".join(f"w{number}" for number in range(10_000))


@pytest.mark.parametrize(
    ("document", "most", "tokens"),
    [("a b c", None, 3), ("a b c", 3, 3), ("a b c", 2, 2), (WORDS, 7, 7), (WORDS, None, LIMIT - 2)],
    ids=lambda value: str(value)[:20],
)
def test_what_is_left_is_the_beginning_and_about_as_long_as_may_be(
    document: str, most: int | None, tokens: int
) -> None:
    (query, left), told = cut_pair(Vectors(), "red bird", document, most)
    assert query == "red bird"
    assert document.startswith(left)
    found = len(left.split())
    assert told == found + 2
    assert tokens * 0.9 - 1 <= found <= tokens


def test_numbers_of_libraries_become_plain_ones() -> None:
    class Counting(Vectors):
        @override
        def count_tokens(self, text: str) -> int:
            return np.int64(super().count_tokens(text))  # type: ignore[return-value]

    for document in ("a b c", WORDS):
        _, told = cut_pair(Counting(), "red bird", document, None)
        assert type(told) is int


class Framed(Vectors):
    """Each text gets two tokens more, as tokenizers have it that mark where a text begins and ends."""

    @override
    def count_tokens(self, text: str) -> int:
        return super().count_tokens(text) + 2


@pytest.mark.parametrize("most", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "document", ["red bird sings loudly now and then", " " * 5000 + WORDS, "x" * 400], ids=len
)
def test_tokens_that_are_added_are_not_counted_as_the_documents(document: str, most: int) -> None:
    (_, left), told = cut_pair(Framed(), "red bird", document, most)
    assert document.startswith(left)
    assert 1 <= len(left.split()) <= most
    assert told == 4 + len(left.split()) + 2


@pytest.mark.parametrize("room", range(4))
def test_a_document_that_would_be_cut_to_nothing_is_not_ranked(room: int) -> None:
    query = "w " * (LIMIT - 2 - room)
    if room > 2:
        assert cut_pair(Framed(), query, "red bird sings", None)[0][1].split() == ["red"]
        return
    with pytest.raises(EngineError, match="Shorten it") as caught:
        cut_pair(Framed(), query, "red bird sings", None)
    assert caught.value.problem.param == "query"


class Letters(Vectors):
    """Three tokens for each character, as of a script that the model does not know."""

    @override
    def count_tokens(self, text: str) -> int:
        return 3 * len(text)


def test_a_character_of_several_tokens_is_not_cut() -> None:
    assert cut_pair(Letters(), "a", "abcdef", 1) == (("a", "a"), 6)


def test_a_query_that_leaves_no_room_is_told() -> None:
    with pytest.raises(EngineError) as caught:
        cut_pair(Vectors(), "w " * LIMIT, "a", None)
    assert (caught.value.problem.param, caught.value.problem.code) == ("query", "context_length_exceeded")
