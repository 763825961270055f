"""Answers of engines off the wire, in whatever pieces they come."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_gateway.text.connection import MAX_HEAD_BYTES, Connection
from roundhouse_gateway.text.incoming import Told
from roundhouse_gateway.text.writes import Writes
from tests.unit.gateway.client_connection import Wire

OK = b"HTTP/1.1 200 OK\r\n"


@dataclass
class Line:
    """A connection with a request on it, and what was told of it."""

    wire: Wire = field(default_factory=Wire)
    idle: int = 0
    lost: int = 0
    news: int = 0
    writes: Writes = field(default_factory=lambda: Writes(soon=lambda _: None))

    def __post_init__(self) -> None:
        self.connection = Connection(self._on_idle, self._on_lost, self.writes)
        self.connection.connection_made(self.wire)
        self.ask()

    def ask(self) -> None:
        self.reply = Told(self._on_news)
        self.connection.ask(b"POST /", self.reply)

    def feed(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            if not self.wire.closed:
                self.connection.data_received(piece)
        return self.reply.take()

    def end(self, error: Exception | None = None) -> None:
        self.wire.closed = True
        self.connection.connection_lost(error)

    def _on_idle(self, _: Connection) -> None:
        self.idle += 1

    def _on_lost(self, _: Connection) -> None:
        self.lost += 1

    def _on_news(self) -> None:
        self.news += 1


@dataclass(frozen=True)
class Case:
    id: str
    answer: bytes
    body: bytes
    kept: bool


CASES = [
    Case("with a length", OK + b"content-length: 2\r\n\r\nhi", b"hi", True),
    Case("in chunks", OK + b"transfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", b"hi", True),
    Case(
        "with a trailer",
        OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-late: 1\r\n\r\n",
        b"hi",
        True,
    ),
    Case(
        "after an interim one",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        + OK
        + b"content-length: 2\r\n\r\nhi",
        b"hi",
        True,
    ),
    Case("of nothing", OK + b"content-length: 0\r\n\r\n", b"", True),
    Case("without a body", b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    Case("before it closes", OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi", b"hi", False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda each: each.id)
@given(data=st.data())
def test_an_answer_is_whole_however_it_is_cut(case: Case, data: st.DataObject) -> None:
    line = Line()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(case.answer) - 1))))
    ends = [*cuts, len(case.answer)]
    pieces = [case.answer[start:end] for start, end in zip([0, *cuts], ends, strict=True)]
    assert line.feed(*pieces) == case.body
    assert line.reply.complete
    assert line.reply.status in {200, 204}
    assert (line.idle, line.wire.closed) == ((1, False) if case.kept else (0, True))
    assert all(name != b"x-late" for name, _ in line.reply.headers)


def test_one_answer_follows_another() -> None:
    line = Line()
    for number in range(3):
        assert line.feed(OK + b"content-length: 1\r\n\r\n%d" % number) == b"%d" % number
        assert line.idle == number + 1
        line.ask()


def test_an_answer_that_ends_with_the_connection() -> None:
    line = Line()
    assert line.feed(OK + b"\r\nhi") == b"hi"
    assert not line.reply.complete
    line.end()
    assert (line.reply.complete, line.reply.failure, line.idle, line.lost) == (True, "", 0, 1)


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
@pytest.mark.parametrize("begun", [b"", OK, OK + b"content-length: 9\r\n\r\nhi"])
def test_an_answer_that_breaks_off(begun: bytes, error: Exception | None) -> None:
    line = Line()
    line.feed(*([begun] if begun else []))
    line.end(error)
    assert (line.reply.complete, line.reply.failure) == (False, "broken")
    assert bool(line.reply.status) == begun.endswith(b"hi")


@pytest.mark.parametrize(
    ("answer", "failure"),
    [(b"SMTP ready\r\n", "broken"), (OK + b"no header\r\n\r\n", "unreadable")],
    ids=["no HTTP", "no header"],
)
def test_on_a_kept_connection_the_last_status_counts_for_nothing(answer: bytes, failure: str) -> None:
    line = Line()
    assert line.feed(OK + b"content-length: 2\r\n\r\nhi") == b"hi"
    line.ask()
    line.feed(answer)
    assert line.reply.failure == failure


def test_a_reset_ends_no_answer() -> None:
    line = Line()
    line.feed(OK + b"\r\nhi")
    line.end(ConnectionResetError())
    assert line.reply.failure == "broken"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1\r\n\r\n",
        OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nhi",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"x: y\r\n" * (MAX_HEAD_BYTES // 3),
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    ],
    ids=["no HTTP", "no status", "two lengths", "a negative length", "an endless head", "another protocol"],
)
def test_what_is_no_answer(answer: bytes) -> None:
    line = Line()
    line.feed(*[answer[at : at + 65536] for at in range(0, len(answer), 65536)])
    has_head = answer.startswith(b"HTTP/1.1 ") and len(answer) <= MAX_HEAD_BYTES
    assert line.reply.failure == ("unreadable" if has_head else "broken")
    assert line.wire.closed
    assert line.idle == 0


def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    line = Line()
    assert line.feed(OK + b"content-length: 2\r\n\r\nhi", OK + b"content-length: 0\r\n\r\n") == b"hi"
    assert line.reply.complete
    assert line.wire.closed


def test_an_answer_and_more_in_one_piece_poison_no_later_request() -> None:
    line = Line()
    assert line.feed(OK + b"content-length: 2\r\n\r\nhi" + OK + b"content-length: 4\r\n\r\nevil") == b"hi"
    assert line.reply.complete
    assert line.idle == 0
    assert line.wire.closed


def test_an_answer_that_nobody_wants_ends_the_connection() -> None:
    line = Line()
    line.feed(OK + b"content-length: 9\r\n\r\nhi")
    line.reply.abandon()
    assert line.wire.closed
    line.end()
    assert line.news == 1


def test_a_request_is_written_with_all_others_of_its_turn() -> None:
    line = Line()
    before = line.wire.sent
    line.writes.flush()
    assert (before, line.wire.sent) == (b"", b"POST /")


def test_a_request_that_is_given_up_at_once_is_not_written() -> None:
    line = Line()
    line.reply.abandon()
    line.writes.flush()
    assert (line.wire.sent, line.wire.closed, line.news) == (b"", True, 0)
