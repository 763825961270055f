"""Server-sent events, however their bytes are cut, and what the events of each dialect say."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_gateway.errors import EngineFailedError
from roundhouse_gateway.speech.events import (
    MAX_EVENT_BYTES,
    Told,
    data_of,
    read_openai,
    read_speaches,
    read_vllm,
)


async def cut(whole: bytes, places: Sequence[int]) -> AsyncIterator[bytes]:
    edges = [0, *sorted(places), len(whole)]
    for start, end in pairwise(edges):
        yield whole[start:end]


async def read(whole: bytes, places: Sequence[int] = ()) -> list[bytes]:
    return [data async for data in data_of(cut(whole, places), "m")]


@given(st.lists(st.integers(0, 60)), st.sampled_from(["\n", "\r\n"]))
def test_events_are_the_same_for_every_cut(places: list[int], end: str) -> None:
    whole = ": hello|data: one|id: 7||data:two|data: three||event: x||data: lost".replace("|", end).encode()
    assert asyncio.run(read(whole, [min(place, len(whole)) for place in places])) == [b"one", b"two\nthree"]


def test_an_event_has_a_bound() -> None:
    with pytest.raises(EngineFailedError, match="more than"):
        asyncio.run(read(b"data: " + b"x" * (MAX_EVENT_BYTES + 1)))


def test_the_three_dialects() -> None:
    delta = b'{"type":"transcript.text.delta","delta":" go"}'
    assert read_openai(delta) == read_speaches(delta) == Told(" go")
    usage = {"type": "duration", "seconds": 2}
    done = b'{"type":"transcript.text.done","text":"go","usage":{"type":"duration","seconds":2}}'
    assert read_openai(done) == Told(text="go", usage=usage, ends=True)
    assert read_openai(b"[DONE]") == read_speaches(b"[DONE]") == Told()
    assert read_openai(b'{"type":"transcript.text.segment","id":"1"}') == Told()
    assert read_speaches(b'{"text":"go"}') == Told("go", loose=True)
    assert read_vllm(b'{"choices":[{"delta":{"content":null}}]}') == Told()
    assert read_vllm(b"[DONE]") == Told(ends=True)


def test_an_error_has_the_four_keys_whatever_the_engine_sends() -> None:
    for data in (b'{"error":"out of memory"}', b'{"error":{"message":"out of memory","code":500}}'):
        error = read_vllm(data).error
        assert error is not None
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"] == "out of memory"


@pytest.mark.parametrize("data", [b"<html>", b"[1]", b'{"choices":[{}]}', b'{"object":"x"}', b"[" * 5000])
def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no "):
        read_vllm(data)
