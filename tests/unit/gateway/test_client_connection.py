"""How long a client may keep its connection, and what may follow on what in it."""

import asyncio
from itertools import pairwise

import pytest
from websockets import http11

from tests.support.waiting import eventually
from tests.unit.gateway.client_connection import KEEP_ALIVE_SECONDS, Line, NoLane
from tests.unit.gateway.waiting import turns

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = GET.replace(b"/ ", b"/slow ")
WITH_A_BODY = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.parametrize(
    ("begun", "piece"), [(GET, b"\r\n"), (WITH_A_BODY, b"y")], ids=["empty lines", "a body that nobody reads"]
)
async def test_what_is_no_request_does_not_keep_a_connection(begun: bytes, piece: bytes) -> None:
    line = Line()
    assert b"200 OK" in await line.feed(begun)
    deadline = asyncio.get_running_loop().time() + 50 * KEEP_ALIVE_SECONDS
    while not line.wire.closed:
        await line.feed(piece)
        assert asyncio.get_running_loop().time() < deadline, "it is kept as long as something comes"
        await asyncio.sleep(KEEP_ALIVE_SECONDS / 25)


async def test_a_connection_goes_on_after_a_body_that_nobody_read() -> None:
    line = Line()
    assert b"200 OK" in await line.feed(WITH_A_BODY)
    await line.feed(b"y" * 1_000_000)
    assert b"200 OK" in await line.feed(GET)


async def test_the_clock_of_a_kept_connection_is_not_that_of_its_next_request() -> None:
    line = Line()
    await line.feed(SLOW)
    await line.feed(SLOW[:10])  # the next begins before the first has ended
    line.gate.set()
    await turns()
    line.gate.clear()
    await line.feed(SLOW[10:])
    await asyncio.sleep(3 * KEEP_ALIVE_SECONDS)
    assert not line.wire.closed


async def test_http_1_0_gets_no_chunks() -> None:
    line = Line()
    await line.feed(SLOW.replace(b"HTTP/1.1", b"HTTP/1.0"))
    head, _, body = line.wire.sent.partition(b"\r\n\r\n")
    assert (body, line.wire.closed) == (b"one", False)
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    line.gate.set()
    await turns()
    assert line.wire.sent == head + b"\r\n\r\nonetwo"
    assert line.wire.closed
    known = Line()
    assert b"content-length: 2\r\n" in await known.feed(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert known.wire.sent.endswith(b"\r\n\r\nok")
    assert known.wire.closed


async def test_who_takes_nothing_of_an_answer_is_kept_from_the_fast_lane() -> None:
    lane = NoLane()
    line = Line(lane=lane)
    await line.feed(CHAT)
    line.protocol.pause_writing()
    early, asked = await line.feed(CHAT), lane.asked
    line.protocol.resume_writing()  # before anything is asserted: what waits for this is not to be cancelled
    await turns()
    assert (early, asked) == (b"", 1)
    assert line.wire.sent.count(b"200 OK") == 2
    await line.feed(CHAT)
    assert lane.asked == 2


def chat(body: bytes, key: bytes = b"one") -> bytes:
    return CHAT.replace(
        b"Content-Length: 2", b"Content-Length: %d\r\nXI-API-Key: %s" % (len(body), key)
    ).replace(b"{}", body)


LONG = b"y" * 60_000


@pytest.mark.parametrize(
    "sent",
    [
        HANDSHAKE.replace(b"/ws", b"/ws?keyterms=" + LONG),
        HANDSHAKE.replace(b"\r\n\r\n", b"\r\nCookie: " + LONG + b"\r\n\r\n"),
        HANDSHAKE.replace(b"\r\n\r\n", b"".join(b"\r\nX-%d: y" % n for n in range(1000)) + b"\r\n\r\n"),
    ],
    ids=["line", "header", "many headers"],
)
async def test_a_handshake_may_have_as_long_a_head_as_any_request(sent: bytes) -> None:
    line = Line()
    assert (await line.feed(sent)).startswith(b"HTTP/1.1 101 ")


async def test_a_handshake_that_cannot_be_read_is_answered_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line()
    monkeypatch.setattr(http11, "MAX_LINE_LENGTH", 20)
    assert (await line.feed(HANDSHAKE)).startswith(b"HTTP/1.1 431 ")
    assert line.wire.closed


async def test_a_handshake_with_a_body_is_none() -> None:
    line = Line()
    with_a_body = HANDSHAKE.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n")
    assert (await line.feed(with_a_body)).startswith(b"HTTP/1.1 200 ")
    assert (await line.feed(b"12345", GET)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("before", [SLOW, SLOW + GET], ids=["one", "two"])
async def test_a_handshake_behind_a_request_ends_the_connection_after_its_answer(before: bytes) -> None:
    line = Line()
    await line.feed(before)
    assert await line.feed(HANDSHAKE) == b""
    await line.feed(b"\x81\x00", HANDSHAKE)
    assert not line.wire.closed
    line.gate.set()
    await turns()
    assert b"101" not in line.wire.sent
    assert line.wire.sent.count(b"HTTP/1.1 200 OK") == len(before.split(b"GET")) - 1
    assert line.wire.closed
    assert "/ws" not in line.asked


async def test_a_request_whose_body_is_to_come_is_finished_in_a_drain() -> None:
    line = Line(lane=NoLane())
    await line.feed(CHAT)
    await line.feed(CHAT[:-2])
    line.protocol.shutdown()
    assert not line.wire.closed
    last = await line.feed(b"{}")
    assert (last.count(b"200 OK"), last.count(b"connection: close")) == (1, 1)
    assert line.wire.closed


@pytest.mark.parametrize("pieces", [1, 2, 3])
async def test_a_head_that_came_before_is_not_read_again(pieces: int) -> None:
    """Answers are the same as if it was, however the request comes."""
    lane = NoLane()
    line = Line(lane=lane)
    bodies = [b"{}", b'{"a": 1}', b"{}", b'{"long": "%s"}' % (b"y" * 5000)]
    for body in bodies:
        sent = chat(body)
        cuts = [0, len(sent) - len(body), len(sent) - 1, len(sent)]
        cuts = {1: [0, len(sent)], 2: [0, cuts[1], len(sent)], 3: cuts}[pieces]
        answer = await line.feed(*(sent[start:end] for start, end in pairwise(cuts)))
        assert answer.count(b"200 OK") == 1
    assert lane.requests == [("one", body) for body in bodies]
    assert line.bodies == [(b"%d" % len(body), body) for body in bodies]


async def test_another_key_on_the_same_connection_is_another_key() -> None:
    lane = NoLane()
    line = Line(lane=lane)
    await line.feed(chat(b"{}"), chat(b"[]"))
    await line.feed(chat(b"{}", b"two"))
    await line.feed(chat(b"{}", b"two"))
    await line.feed(chat(b"{}"))
    assert [key for key, _ in lane.requests] == ["one", "two", "two", "one"], "what is behind another waits"
    assert line.wire.sent.count(b"200 OK") == 5


@pytest.mark.parametrize("behind", [chat(b"[]"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["chat", "get"])
async def test_two_requests_in_one_piece_are_two(behind: bytes) -> None:
    line = Line(lane=NoLane())
    await line.feed(chat(b"{}"))
    assert (await line.feed(chat(b"{}") + behind)).count(b"200 OK") == 2
    assert (await line.feed(chat(b"{}"))).count(b"200 OK") == 1


async def test_what_follows_a_known_head_too_slowly_is_read_by_the_application() -> None:
    lane = NoLane()
    line = Line(lane=lane)
    await line.feed(chat(b"{}"))
    sent = chat(b"12345")
    await line.feed(sent[:-2])

    async def is_in_the_application() -> bool:
        return len(line.asked) == 2

    await eventually(is_in_the_application, seconds=10, what="the application reads it", every=0.01)
    assert b"200 OK" in await line.feed(sent[-2:])
    assert (lane.asked, line.bodies[-1]) == (1, (b"5", b"12345"))


async def test_requests_of_known_heads_keep_their_connection_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line(lane=NoLane())
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)  # the machine's own may stand still, and then leap
    for _ in range(75):
        assert b"200 OK" in await line.feed(chat(b"{}"))
        now += KEEP_ALIVE_SECONDS / 25
    await turns()
    assert not line.wire.closed
    now += KEEP_ALIVE_SECONDS
    await turns()
    assert line.wire.closed


async def test_a_drain_ends_a_connection_behind_the_request_that_has_begun() -> None:
    line = Line(lane=NoLane())
    await line.feed(chat(b"{}"))
    await line.feed(chat(b"12345")[:-2])
    line.protocol.shutdown()
    assert not line.wire.closed
    answer = await line.feed(b"45")
    assert b"200 OK" in answer
    assert b"connection: close" in answer
    assert line.wire.closed
