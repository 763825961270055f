"""Large JSON is read and written as Python's own parser would, and no other code waits long for it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse_engine.errors import EngineError
from roundhouse_engine.json_body import read_object
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
