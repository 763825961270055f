"""Large JSON is read and written as Python's own parser would, and no other code waits long for it."""

import asyncio
import itertools
import json
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse_engine import payload
from roundhouse_engine.errors import EngineError
from roundhouse_engine.json_body import DEPTH, read_object
from roundhouse_engine.large_json import SMALL_BYTES, loads, pieces

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=40)
@given(values)
def test_what_is_written_is_what_is_read(value: object) -> None:
    assert json.loads("".join(pieces(value))) == value
    body = json.dumps(value).encode()
    assert loads(body) == loads(body + b" " * SMALL_BYTES) == value


@pytest.mark.parametrize("padding", [0, SMALL_BYTES], ids=["small", "large"])
@pytest.mark.parametrize(
    "body", [b"[NaN]", b"[1e999]", b"[1", b"[1] 2", b'["\xff"]', b'["\xed\xa0\x80"]', b""], ids=repr
)
def test_what_is_no_json(body: bytes, padding: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        loads(body + b" " * padding)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_other_encodings_and_marks_at_the_beginning(encoding: str) -> None:
    text = json.dumps(["ä" * SMALL_BYTES], ensure_ascii=False)
    assert loads(text.encode(encoding)) == json.loads(text)


def test_a_body_of_too_many_values_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(EngineError) as told:
        read_object(b'{"input": [' + b"[]," * 500_000 + b"[]]}")
    assert (told.value.problem.status, told.value.problem.code) == (413, "body_too_large")


def test_what_is_made_at_once_is_small() -> None:
    ids = [[100_000 + number for number in range(20_000)]]
    assert max(map(len, pieces(ids))) < 10_000
    assert max(map(len, pieces("x" * (1 << 20)))) < 1 << 19


def nested(levels: int, innermost: object) -> Any:
    for level in range(levels):
        innermost = {"in": innermost} if level % 2 else [innermost]
    return innermost


def calls(told: object) -> int:
    """How often Python calls a function, or goes on with a generator, while it writes the JSON."""
    count = 0

    def see(_frame: FrameType, event: str, _told: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(see)
    try:
        for _ in pieces(told):
            pass
    finally:
        sys.setprofile(None)
    return count


def test_what_is_nested_costs_no_more_for_each_of_its_values() -> None:
    values = [f"{number}" for number in range(2000)]
    assert calls(nested(DEPTH, values)) < calls(values) * 1.5


def test_what_is_nested_is_written_whole() -> None:
    told = nested(DEPTH, ["a", {"b": []}, None, {}])
    assert json.loads("".join(pieces(told))) == told


@pytest.mark.parametrize("padding", [0, SMALL_BYTES], ids=["small", "large"])
def test_a_body_may_be_nested_so_deep_and_no_deeper(padding: int) -> None:
    def body(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
        return (
            b'{"a": ' + opening * levels + b"1" * (opening != b"[") + closing * levels + b" " * padding + b"}"
        )

    assert read_object(body(DEPTH - 1)).values["a"]
    assert read_object(body(DEPTH - 1, b'{"b":', b"}")).values["a"]
    for deeper in (body(DEPTH), body(DEPTH, b'{"b":', b"}"), body(5000)):
        with pytest.raises(EngineError, match=f"nested deeper than {DEPTH} levels") as told:
            read_object(deeper)
        assert (told.value.problem.status, told.value.problem.code) == (400, "json_too_deep")


def test_half_a_character_is_found_however_deep_it_stands() -> None:
    for spoiled in (nested(90, "\ud800"), nested(90, {"\ud800": 1})):
        with pytest.raises(EngineError, match="half a character"):
            read_object(json.dumps({"a": spoiled}).encode())


@pytest.mark.parametrize("mark", ["[", "{", ",", '\\"[', "\\[", '"],['])
def test_brackets_and_commas_of_a_text_are_no_values(mark: str) -> None:
    told = {"input": mark * 2_200_000}
    assert read_object(json.dumps(told).encode()).values == told


def test_a_text_hides_no_values() -> None:
    with pytest.raises(EngineError, match="more than 2097152 values"):
        read_object(b'{"a": "\\\\", "b": "\\"", "c": [' + b"[]," * 600_000 + b'[]], "d": "["}')


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", ["", "\\"], ids=["open", "ends in an escape"])
def test_a_text_that_is_not_closed_is_looked_through_once(end: str) -> None:
    """Each of its quotes tried as a text's beginning would take an hour, in which nothing else runs."""
    with pytest.raises(EngineError, match="The body is no JSON: Unterminated string"):
        read_object(b'{"input": "' + b'\\"[' * 600_000 + end.encode())


def test_others_have_their_turn_after_so_much_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few characters were written: here each look at the clock is a second later."""
    monkeypatch.setattr(payload, "perf_counter", itertools.count().__next__)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def write() -> None:
        waiting = asyncio.create_task(others())
        (await payload.payload(["a"] * 100)).close()
        waiting.cancel()

    asyncio.run(write())
    assert turns > 100
