"""Heads that are not read twice: only the digits of the length may differ, and the message is whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_gateway.text.heads import MAX_KNOWN_BYTES, known

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nX-Key: a\r\n\r\n"


def with_length(length: bytes, head: bytes = HEAD) -> bytes:
    return head.replace(b"Length: 5", b"Length: " + length)


@given(st.binary(min_size=1, max_size=300))
def test_the_same_head_before_any_body(body: bytes) -> None:
    found = known(HEAD + b"12345", 5, "meant")
    assert found is not None
    message = with_length(b"%d" % len(body)) + body
    assert (found.meaning, found.body_of(message)) == ("meant", body)
    assert not found.is_begun_by(message)
    assert all(found.body_of(message[:end]) is None for end in range(len(message)))
    assert all(found.is_begun_by(message[:end]) for end in range(len(message) - len(body), len(message)))
    assert found.body_of(message + b"x") is None


@pytest.mark.parametrize(
    "message",
    [
        HEAD.replace(b"X-Key: a", b"X-Key: b") + b"12345",
        HEAD.replace(b"X-Key: a", b"x-key: a") + b"12345",
        HEAD.replace(b"X-Key: a", b"X-Key: a\r\nX: y") + b"12345",
        HEAD.replace(b"X-Key: a\r\n", b"") + b"12345",
        HEAD.replace(b"/ ", b"/x ") + b"12345",
        with_length(b"05") + b"12345",
        with_length(b"+5") + b"12345",
        with_length(b" 5") + b"12345",
        with_length(b"5 ") + b"12345",
        with_length(b"5, 5") + b"12345",
        with_length(b"") + b"12345",
        with_length(b"0"),
        with_length(b"500000000") + b"12345",
        HEAD + b"1234",
        HEAD + b"123456",
        b"\r\n" + HEAD + b"12345",
        b"",
    ],
)
def test_whatever_differs_in_more_than_its_length_is_unknown(message: bytes) -> None:
    found = known(HEAD + b"12345", 5, "meant")
    assert found is not None
    assert found.body_of(message) is None


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (HEAD[:-2], 5),
        (HEAD, 4),
        (HEAD.replace(b"Content-Length: 5\r\n", b""), 0),
        (HEAD.replace(b"X-Key: a", b"Content-Length: 5"), 5),
        (with_length(b"05"), 5),
        (HEAD.replace(b"X-Key: a", b"X-Key:\n a"), 5),
        (HEAD.replace(b"X-Key: a", b"X-Key: " + b"a" * MAX_KNOWN_BYTES), 5),
        (b"GET / HTTP/1.1\r\n\r\n" + HEAD, 5),
    ],
    ids=["cut", "length", "none", "twice", "zero", "line break", "long", "behind another"],
)
def test_a_head_that_is_not_kept(data: bytes, length: int) -> None:
    assert known(data, length, "meant") is None
