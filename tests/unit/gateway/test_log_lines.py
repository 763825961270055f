"""Lines of the log: whole in a pipe that several write to, and by whom."""

import json
import os
from select import PIPE_BUF
from threading import Thread
from unittest.mock import patch

import pytest

from roundhouse_gateway.logs import Line, RequestLog, in_whole_lines

LINE = Line("id", "127.0.0.1", "/v1/models", "unknown", 200, 0)


def test_lines_are_put_together_as_far_as_a_pipe_keeps_them_whole() -> None:
    lines = [b"%d" % (number % 10) * 999 + b"\n" for number in range(9)]
    long = b"x" * (PIPE_BUF + 1) + b"\n"
    pieces = list(in_whole_lines([*lines, long, b"\n"]))
    assert b"".join(pieces) == b"".join([*lines, long, b"\n"])
    assert [len(each) for each in pieces] == [4000, 4000, 1000, PIPE_BUF + 2, 1]


async def test_lines_of_two_workers_in_one_full_pipe_are_not_torn() -> None:
    reading, writing = os.pipe()
    ends = [writing, os.dup(writing)]

    def write(number: int) -> None:
        log = RequestLog()
        log.worker = number
        with os.fdopen(ends[number], "wb") as log.stream:
            for _ in range(40):
                for _ in range(40):
                    log.write("GET /v1/models 200", LINE)
                log.flush()

    writers = [Thread(target=write, args=(number,)) for number in range(2)]
    said = b""
    with patch.object(RequestLog, "is_wanted", new=lambda _: True), patch.object(RequestLog, "_write_soon"):
        for each in writers:
            each.start()
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            while piece := pipe.read(512):
                said += piece
        for each in writers:
            each.join()
    found = [json.loads(line)["worker"] for line in said.splitlines()]
    assert [found.count(number) for number in range(2)] == [1600, 1600]


@pytest.mark.parametrize(("worker", "said"), [(None, ""), (3, '"worker":3,')])
async def test_a_line_says_its_worker_where_there_are_several(worker: int | None, said: str) -> None:
    reading, writing = os.pipe()
    log = RequestLog()
    log.worker = worker
    with os.fdopen(writing, "wb") as log.stream, patch.object(RequestLog, "is_wanted", new=lambda _: True):
        log.write("GET /v1/models 200", LINE)
        log.flush()
    with os.fdopen(reading, "rb") as pipe:
        assert f'"logger":"roundhouse.gateway.access",{said}"message"' in pipe.read().decode()
