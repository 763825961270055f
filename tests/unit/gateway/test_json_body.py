"""JSON is counted as a parser would count it, without one; room is given back whatever happens."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from roundhouse_gateway.guard_errors import BodyTooLargeError, JsonTooDeepError, NoRoomError, NotUtf8Error
from roundhouse_gateway.json_body import PIECE_BYTES, JsonBodies
from roundhouse_gateway.upload import Upload

WORDS = st.text(alphabet='[]{}"\\,x:é', max_size=12)
VALUES = st.recursive(
    st.none() | WORDS | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=40,
)


def depth_of(value: Any) -> int:
    match value:
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
        case list():
            return 1 + max(map(depth_of, value), default=0)
        case _:
            return 0


def bodies(*, depth: int = 100, limit: int = 1 << 20, room: int = 1 << 20) -> JsonBodies:
    return JsonBodies(limit_bytes=limit, depth_limit=depth, room_bytes=room)


def upload(*pieces: bytes) -> Upload:
    waiting: list[Message] = [{"type": "http.request", "body": each, "more_body": True} for each in pieces]

    async def receive() -> Message:
        return waiting.pop(0) if waiting else {"type": "http.request", "body": b""}

    return Upload(receive, limit_bytes=1 << 30, idle_seconds=5)


@given(value=VALUES, limit=st.integers(1, 6), ascii_only=st.booleans())
def test_depth_is_that_of_the_value_whatever_its_strings_hold(
    value: Any, limit: int, *, ascii_only: bool
) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    if depth_of(value) <= limit:
        bodies(depth=limit).check_text(body)
    else:
        with pytest.raises(JsonTooDeepError, match=f"{limit} levels"):
            bodies(depth=limit).check_text(body)


@given(value=VALUES, at=st.integers(0, 400))
def test_depth_does_not_depend_on_where_pieces_end(value: Any, at: int) -> None:
    deep = json.dumps([[[value]]]).encode()
    padding = b" " * (PIECE_BYTES - at % (len(deep) + 1))
    bodies(depth=3 + depth_of(value)).check_text(padding + deep)
    with pytest.raises(JsonTooDeepError):
        bodies(depth=2 + depth_of(value)).check_text(padding + deep)


@pytest.mark.parametrize(
    "bomb",
    [b"[" * 1_000_000, b'{"a":' * 200_000, b"[[]," * 250_000, b'"' + b'\\"' * 400_000 + b'",' + b"[" * 200],
)
async def test_bombs_are_refused_quickly(bomb: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(JsonTooDeepError):
        async with bodies(limit=1 << 25, room=1 << 25).read(upload(bomb)):
            pytest.fail("it was taken")
    assert time.monotonic() - began < 10


async def test_a_body_that_is_no_json_passes() -> None:
    async with bodies().read(upload(b'{"a": "', b'\x01\x00"] }}}')) as body:
        assert body == b'{"a": "\x01\x00"] }}}'


@given(before=st.integers(0, 4), after=st.integers(0, 4))
async def test_text_is_utf8_wherever_pieces_end(before: int, after: int) -> None:
    sound = b"x" * (PIECE_BYTES - before) + "é\N{GRINNING FACE}".encode() + b"x" * after
    bodies().check_text(sound)
    for spoilt in (b"\xff", b"\xc3", "é".encode("utf-16-le"), b"\xed\xa0\x80"):
        with pytest.raises(NotUtf8Error, match=f"byte {len(sound)} is not UTF-8") as caught:
            bodies().check_text(sound + spoilt)
        assert (caught.value.status, caught.value.code) == (400, "malformed_json")


@pytest.mark.parametrize(("pieces", "announced"), [([b"x" * 60, b"x" * 60], 0), ([b"x"], 101)])
async def test_a_body_over_its_limit(pieces: Sequence[bytes], announced: int) -> None:
    held = bodies(limit=100)
    with pytest.raises(BodyTooLargeError, match="100 bytes"):
        async with held.read(upload(*pieces), announced):
            pytest.fail("it was taken")
    assert held.held_bytes == 0


async def test_all_bodies_together_have_so_much_room_and_give_it_back() -> None:
    held = bodies(room=100)
    async with held.read(upload(b"x" * 60)):
        for announced in (60, 0):
            with pytest.raises(NoRoomError):
                async with held.read(upload(b"x" * 60), announced):
                    pytest.fail("it was taken")
        async with held.read(upload(b"x" * 40), 40):
            assert held.held_bytes == 100
    assert held.held_bytes == 0


async def test_room_is_taken_by_what_has_come_and_not_by_what_is_announced() -> None:
    held, rest = bodies(room=100), asyncio.Event()
    begun = asyncio.Event()

    async def trickling() -> Message:
        if not begun.is_set():
            begun.set()
            return {"type": "http.request", "body": b"x" * 10, "more_body": True}
        await rest.wait()
        return {"type": "http.request", "body": b"x" * 50}

    async def read_slowly() -> int:
        async with held.read(Upload(trickling, limit_bytes=100, idle_seconds=60), 60) as body:
            return len(body)

    slow = asyncio.ensure_future(read_slowly())
    await begun.wait()
    async with held.read(upload(b"x" * 90), 90):
        assert held.held_bytes == 100
        rest.set()
        with pytest.raises(NoRoomError):
            await slow
    assert held.held_bytes == 0


async def test_one_key_does_not_fill_the_room() -> None:
    held = bodies(room=100)
    async with held.read(upload(b"x" * 40), 40, "greedy"):
        for announced in (40, 0):
            with pytest.raises(NoRoomError):
                async with held.read(upload(b"x" * 40), announced, "greedy"):
                    pytest.fail("it was taken")
        async with held.read(upload(b"x" * 40), 40, "modest"):
            assert held.held_bytes == 80
    async with held.read(upload(b"x" * 60, b"x" * 40), 0, "greedy") as body:
        assert len(body) == 100, "one body may take all that there is"
    with held.hold(50, "greedy"), held.hold(50, "modest"), pytest.raises(NoRoomError), held.hold(1, "third"):
        pytest.fail("it was taken")
    assert held.held_bytes == 0
