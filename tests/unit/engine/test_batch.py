"""A batch in a runner: in which calls it is computed, and what short memory changes."""

import io
import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from typing_extensions import override

from roundhouse_engine import Cancellation, Cancelled, Embedding, ModelSpec, Rerank
from roundhouse_engine.batch import Told, compute_batch
from roundhouse_engine.text import Text
from roundhouse_engine.text_events import Embedded, Halved, TextAsk, TextWork


class Counting(Embedding, Rerank):
    """A token is a character. Bears calls of so many tokens, and remembers what was in each that it bore."""

    batch_items = 4
    batch_tokens = 100
    bears = 1000

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.counted: list[str] = []

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None: ...

    @override
    def count_tokens(self, text: str) -> int:
        self.counted.append(text)
        return len(text)

    @override
    def embed(self, texts: Sequence[Text], cancellation: Cancellation) -> np.ndarray:
        if max(map(len, texts)) * len(texts) > self.bears:
            raise MemoryError
        self.calls.append([len(text) for text in texts])
        return np.ones((len(texts), 2))

    @override
    def score(self, pairs: Sequence[tuple[str, str]], cancellation: Cancellation) -> list[float]:
        return [0.5 for _ in pairs]


def computed(handler: Embedding, *lengths: int) -> list[Told]:
    told = {"items": ["a" * length for length in lengths], "bounds": [None] * len(lengths)}
    file = io.BytesIO(json.dumps(told).encode())
    return list(compute_batch(handler, file, TextAsk("m", TextWork.EMBED), Cancellation()))


def test_short_texts_are_told_first_and_padded_to_about_their_length() -> None:
    handler = Counting()
    found = computed(handler, 90, 3, 40, 30, 2, 60, 1, 4, 5)
    assert handler.calls == [[1, 2, 3, 4], [5, 30], [40], [60], [90]]
    assert [each.index for each in found if isinstance(each, Embedded)] == [6, 4, 1, 7, 8, 3, 2, 5, 0]


def test_long_texts_that_are_too_much_together_leave_short_ones_together() -> None:
    handler = Counting()
    handler.bears = 60
    found = computed(handler, 40, 40)
    assert [each for each in found if isinstance(each, Halved)] == [Halved(2)]
    computed(handler, 2, 2, 2, 2, 40)
    assert handler.calls == [[40], [40], [2, 2, 2, 2], [40]]


def test_memory_that_was_short_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been another model's, which is gone."""
    monkeypatch.setattr("roundhouse_engine.room._GOOD_CALLS", 3)
    handler = Counting()
    handler.bears = 60
    computed(handler, 20, 20, 20, 20)
    handler.bears = 1000
    computed(handler, 20, 20)
    computed(handler, 20, 20, 20, 20)
    assert handler.calls == [[20, 20], [20, 20], [20, 20], [20, 20, 20, 20]]


def test_nothing_is_computed_after_the_call_in_which_a_client_left() -> None:
    cancellation = Cancellation()

    class Left(Counting):
        @override
        def embed(self, texts: Sequence[Text], cancellation: Cancellation) -> np.ndarray:
            cancellation.cancel()
            return super().embed(texts, cancellation)

    handler = Left()
    told = {"items": ["text"] * 64, "bounds": [None] * 64}
    with pytest.raises(Cancelled):
        list(
            compute_batch(
                handler, io.BytesIO(json.dumps(told).encode()), TextAsk("m", TextWork.EMBED), cancellation
            )
        )
    assert handler.calls == [[4] * 4]


def test_the_query_of_many_documents_is_counted_once() -> None:
    handler = Counting()
    told = {"items": [["query", f"document {number}"] for number in range(9)], "bounds": [None] * 9}
    file = io.BytesIO(json.dumps(told).encode())
    found = list(compute_batch(handler, file, TextAsk("m", TextWork.SCORE), Cancellation()))
    assert len(found) == 9
    assert handler.counted.count("query") == 1
