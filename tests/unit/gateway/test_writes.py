"""What is written in one turn of the event loop: together, in its order, and nothing to who has left."""

from collections.abc import Callable

from roundhouse_gateway.text.writes import ALONE, Writes
from tests.unit.gateway.client_connection import Line, NoLane, Wire

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_all_is_written_at_the_end_of_the_turn_in_which_it_began() -> None:
    ends: list[Callable[[], None]] = []
    writes, first, second = Writes(soon=ends.append), Wire(), Wire()
    for wire, data in ((first, b"a"), (second, b"b"), (first, b"c")):
        writes.add(wire, data)
    assert (first.sent, second.sent, len(ends)) == (b"", b"", 1)
    ends.pop()()
    assert (first.sent, second.sent) == (b"ac", b"b")
    writes.add(first, b"d")
    ends.pop()()
    assert first.sent == b"acd"


def test_what_is_alone_in_its_turn_does_not_wait_for_its_end() -> None:
    ends: list[Callable[[], None]] = []
    writes, wire, other = Writes(soon=ends.append), Wire(), Wire()
    writes.add(wire, b"first")
    ends.pop()()
    wire.sent = b""
    for _ in range(ALONE):
        writes.add(wire, b"x")
    assert (wire.sent, ends) == (b"x" * ALONE, [])
    for each in (wire, other):  # now and then one waits, and finds that it is no longer alone
        writes.add(each, b"y")
    assert (wire.sent, other.sent) == (b"x" * ALONE, b"")
    ends.pop()()
    assert (wire.sent, other.sent) == (b"x" * ALONE + b"y", b"y")
    for each in (wire, other):
        writes.add(each, b"z")
    assert len(ends) == 1


def test_what_is_written_at_once_is_not_for_who_has_left() -> None:
    ends: list[Callable[[], None]] = []
    writes, gone = Writes(soon=ends.append), Wire()
    writes.add(Wire(), b"alone")
    ends.pop()()
    gone.close()
    writes.add(gone, b"a")
    assert (gone.sent, ends) == (b"", [])


def test_who_has_left_keeps_nobody_from_what_is_theirs() -> None:
    writes, gone, there = Writes(soon=lambda _: None), Wire(), Wire()
    for wire in (gone, there):
        writes.add(wire, b"a")
    gone.close()
    writes.flush()
    assert (gone.sent, there.sent) == (b"", b"a")


async def test_an_answer_goes_before_what_ends_its_connection() -> None:
    for piece in (b"no HTTP\r\n\r\n", b""):
        lane = NoLane()
        line = Line(lane=lane)
        assert b"200 OK" in await line.feed(GET)
        lane.writes.add(line.wire, b"the answer")
        if piece:
            said = await line.feed(piece)
            assert said.startswith(b"the answerHTTP/1.1 400 ")
        else:
            line.protocol.shutdown()
            assert line.wire.sent.endswith(b"the answer")
            assert line.wire.closed
