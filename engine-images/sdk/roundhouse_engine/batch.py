"""One batch in a runner: counted, cut into calls that the handler bears, told in events item by item.

An item that cannot be computed costs itself alone; where memory is short, calls become half as
large, and stay so for some time.
"""

import base64
import logging
from collections.abc import Callable, Collection, Iterator, MutableMapping, Sequence
from functools import lru_cache
from operator import index as whole
from typing import Any, BinaryIO, Final
from weakref import WeakKeyDictionary

import numpy as np

from roundhouse_engine.authoring import check_scores, check_vectors
from roundhouse_engine.cutting import cut_pair
from roundhouse_engine.errors import EngineError, Problem, device_is_lost, failed, invalid, memory_is_short
from roundhouse_engine.handler import Cancellation, Cancelled
from roundhouse_engine.large_json import loads
from roundhouse_engine.room import Room
from roundhouse_engine.text import Batched, Embedding, Rerank, Text
from roundhouse_engine.text_events import Embedded, Halved, Ranked, Spoiled, TextAsk, TextWork

logger = logging.getLogger(__name__)

_QUERIES: Final = 64

Outcome = Embedded | Ranked | Spoiled
Told = Outcome | Halved


def compute_batch(
    handler: Batched, file: BinaryIO, ask: TextAsk, cancellation: Cancellation
) -> Iterator[Told]:
    file.seek(0)
    told = loads(file.read())
    items: list[Any] = told["items"]
    if ask.work is TextWork.EMBED:
        assert isinstance(handler, Embedding)  # noqa: S101 - each route asks its own kind
        call = _embedding(handler, [_text(item) for item in items], told["bounds"], cancellation)
    else:
        assert isinstance(handler, Rerank)  # noqa: S101 - as above
        items = [tuple(pair) for pair in items]
        call = _scoring(handler, items, cancellation)
    sizes: dict[int, int] = {}
    # A thousand documents have one query.
    count = lru_cache(_QUERIES)(handler.count_tokens)
    for index, item in enumerate(items):
        cancellation.check()
        try:
            if isinstance(item, tuple):
                query, document = item
                items[index], sizes[index] = cut_pair(handler, query, document, told["bounds"][index], count)
            else:
                sizes[index] = _measured(handler, item)
        except EngineError as error:
            yield Spoiled(index, error.problem)
        except Exception as error:  # noqa: BLE001 - told and logged
            yield Spoiled(index, _fault(error))
    yield from _computed(handler, sizes, call, cancellation)


_rooms: Final[MutableMapping[Batched, Room]] = WeakKeyDictionary()
"""Tokens of a call of each handler whose memory was short."""


def _most_tokens(handler: Batched) -> int:
    room = _rooms.get(handler)
    return handler.batch_tokens if room is None else room.now


Call = Callable[[Sequence[int], dict[int, int]], list[Outcome]]
"""Computes the items of these indices, which are of so many tokens."""


def _computed(
    handler: Batched, sizes: dict[int, int], call: Call, cancellation: Cancellation
) -> Iterator[Told]:
    waiting = sorted(sizes, key=sizes.__getitem__)
    apart: list[list[int]] = []
    """Halves of calls that failed."""
    while waiting or apart:
        cancellation.check()
        group = apart.pop() if apart else _take(waiting, sizes, handler)
        try:
            yield from call(group, sizes)
            if handler in _rooms:
                _rooms[handler].went_well()
        except EngineError as error:
            if len(group) == 1:
                yield Spoiled(group[0], error.problem)
            else:
                apart += _halves(group)
        except Cancelled:
            raise
        except Exception as error:
            if device_is_lost(error):  # nothing else of the batch can be computed either
                raise
            if not memory_is_short(error):  # of whose text it is the fault shows when it stands alone
                if len(group) == 1:
                    yield Spoiled(group[0], _fault(error))
                else:
                    apart += _halves(group)
                continue
            if len(group) == 1:
                yield Spoiled(group[0], _too_much(sizes[group[0]]))
                continue
            logger.warning("memory is short: batches are halved", extra={"items": len(group)})
            # Not the number of texts: two long ones that are too much say nothing of short ones.
            _rooms.setdefault(handler, Room(handler.batch_tokens)).was_short(sizes[group[-1]] * len(group))
            apart += _halves(group)
            yield Halved(len(group))


def _take(waiting: list[int], sizes: dict[int, int], handler: Batched) -> list[int]:
    """The next call's items, shortest first: these wait for no long ones, and padding is little."""
    count, most = 1, _most_tokens(handler)
    while count < min(handler.batch_items, len(waiting)):
        if max(sizes[waiting[count]], 1) * (count + 1) > most:
            break
        count += 1
    group = waiting[:count]
    del waiting[:count]
    return group


def _halves(group: list[int]) -> list[list[int]]:
    middle = len(group) // 2
    return [group[middle:], group[:middle]]


def _text(item: str | list[int]) -> Text:
    return item if isinstance(item, str) else tuple(item)


def _measured(handler: Batched, item: str | list[int]) -> int:
    """How many tokens the item has; raises `EngineError` where they are too many."""
    tokens = whole(handler.count_tokens(item)) if isinstance(item, str) else len(item)
    limit = handler.limit_tokens()
    if limit is not None and tokens > limit:
        raise invalid(
            f"The text is {tokens} tokens long, and the model takes {limit}. Send it in shorter parts.",
            code="context_length_exceeded",
        )
    return tokens


def _embedding(
    handler: Embedding, texts: list[Text], dimensions: list[int | None], cancellation: Cancellation
) -> Call:
    def call(group: Sequence[int], sizes: dict[int, int]) -> list[Outcome]:
        vectors = handler.embed([texts[index] for index in group], cancellation)
        check_vectors(handler, vectors, len(group))
        return [
            _embedded(index, vector, dimensions[index], sizes[index])
            for index, vector in zip(group, vectors, strict=True)
        ]

    return call


def _embedded(index: int, vector: Collection[float], dimensions: int | None, tokens: int) -> Outcome:
    numbers = np.asarray(vector, dtype="<f4")
    if not np.isfinite(numbers).all():
        return Spoiled(index, failed("The model's vector of this text holds what is no number.").problem)
    if dimensions is not None and dimensions != len(numbers):
        if dimensions > len(numbers):
            message = f"dimensions must be {len(numbers)} or less for this model, not {dimensions}."
            return Spoiled(index, invalid(message, param="dimensions").problem)
        numbers = numbers[:dimensions]
        numbers = (numbers / (np.linalg.norm(numbers) or 1.0)).astype("<f4")
    return Embedded(index, base64.b64encode(numbers.tobytes()).decode("ascii"), tokens)


def _scoring(handler: Rerank, pairs: list[tuple[str, str]], cancellation: Cancellation) -> Call:
    def call(group: Sequence[int], sizes: dict[int, int]) -> list[Outcome]:
        scores = handler.score([pairs[index] for index in group], cancellation)
        check_scores(handler, scores, len(group))
        return [
            Ranked(index, float(score), sizes[index])
            if np.isfinite(score)
            else Spoiled(index, failed("The model's score of this document is no number.").problem)
            for index, score in zip(group, scores, strict=True)
        ]

    return call


def _fault(error: Exception) -> Problem:
    logger.error("a text could not be computed", exc_info=error)
    return failed(f"The engine failed while it computed ({type(error).__name__}).").problem


def _too_much(tokens: int) -> Problem:
    return failed(
        f"Memory does not suffice for this text alone, of {tokens} tokens. Send it in shorter parts, or give "
        "the engine more memory.",
        code="out_of_memory",
    ).problem
