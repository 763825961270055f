"""Documents that are longer than a model takes are ranked by how they begin."""

import pytest

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


def test_a_query_that_leaves_no_room_is_told() -> None:
    with pytest.raises(EngineError) as caught:
        cut_pair(Vectors(), "w " * LIMIT, "a", None)
    assert (caught.value.problem.param, caught.value.problem.code) == ("query", "context_length_exceeded")
