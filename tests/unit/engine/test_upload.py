"""Forms as they arrive: in any order and any pieces, bounded, and refused when broken."""

import asyncio
import itertools
import os
import resource
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roundhouse_engine.errors import EngineError, Problem
from roundhouse_engine.upload import ClientGone, Form, UploadLimits, boundary, read_form

MARK = "----mark"
FILE = bytes(range(256)) * 20 + b"\r\n----mark is no boundary\r\n"


def part(name: str, value: bytes, *, filename: str | None = None) -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    return (
        f'--{MARK}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value + b"\r\n"
    )


END = f"--{MARK}--\r\n".encode()
BODY = (
    part("model", b"m") + part("tag[]", b"a") + part("tag[]", "ü".encode()) + part("file", FILE, filename="x")
)


def limits(tmp_path: Path) -> UploadLimits:
    return UploadLimits(total_bytes=1 << 20, idle_seconds=5, spool_dir=tmp_path)


def receiving(*chunks: bytes, last: bool = True) -> Callable[[], Awaitable[dict[str, Any]]]:
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append(
        {"type": "http.request", "body": b"", "more_body": False} if last else {"type": "http.disconnect"}
    )
    source = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(source)

    return receive


async def read(tmp_path: Path, *chunks: bytes) -> tuple[dict[str, list[str]], bytes]:
    with Form() as form:
        await read_form(receiving(*chunks), MARK, limits(tmp_path), form)
        if form.file is None:
            return form.fields, b""
        form.file.seek(0)
        return form.fields, form.file.read()


async def problem(tmp_path: Path, *chunks: bytes, within: UploadLimits | None = None) -> Problem:
    with Form() as form, pytest.raises(EngineError) as caught:
        await read_form(receiving(*chunks), MARK, within or limits(tmp_path), form)
    return caught.value.problem


async def test_fields_and_file(tmp_path: Path) -> None:
    assert await read(tmp_path, BODY + END) == ({"model": ["m"], "tag[]": ["a", "ü"]}, FILE)


async def test_a_file_before_its_fields(tmp_path: Path) -> None:
    body = part("file", FILE, filename="x.wav") + part("model", b"m") + END
    assert await read(tmp_path, body) == ({"model": ["m"]}, FILE)


async def test_a_line_break_after_the_end_may_come_alone(tmp_path: Path) -> None:
    assert (await read(tmp_path, BODY + END[:-2], b"\r\n"))[1] == FILE


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(BODY + END)), max_size=12))
def test_any_pieces_give_the_same_form(cuts: list[int], tmp_path: Path) -> None:
    body = BODY + END
    edges = sorted({0, len(body), *cuts})
    chunks = [body[start:end] for start, end in itertools.pairwise(edges)]
    assert asyncio.run(read(tmp_path, *chunks)) == ({"model": ["m"], "tag[]": ["a", "ü"]}, FILE)


async def test_a_large_recording_goes_to_the_spool_and_leaves_no_name_there(tmp_path: Path) -> None:
    with Form() as form:
        chunk = bytes(1 << 18)
        body = [part("file", b"", filename="x")[:-2], *[chunk] * 12, b"\r\n" + END]
        await read_form(receiving(*body), MARK, replace(limits(tmp_path), total_bytes=1 << 30), form)
        assert form.file is not None
        assert os.fstat(form.file.fileno()).st_size == form.file_bytes == 12 << 18
        assert os.listdir(tmp_path) == []  # noqa: PTH208 - the loop has nothing else to do


@dataclass(frozen=True)
class Broken:
    id: str
    chunks: tuple[bytes, ...]
    status: int
    code: str
    param: str | None = None


BROKEN = [
    Broken("cut off in the file", (BODY[:-200],), 400, "form_malformed"),
    Broken("cut off in a header", (BODY[:30],), 400, "form_malformed"),
    Broken("no body", (), 400, "form_malformed"),
    Broken("a name in no known letters", (part("m", b"").replace(b'"m"', b'"\xff"'),), 400, "form_malformed"),
    Broken("another boundary", (BODY.replace(b"mark", b"kram"),), 400, "form_malformed"),
    Broken(
        "two files",
        (part("file", b"1", filename="a"), part("file", b"2", filename="b") + END),
        400,
        "invalid_value",
        "file",
    ),
    Broken("misplaced file", (part("audio", b"1", filename="a") + END,), 400, "invalid_value", "audio"),
    Broken("endless field", (part("prompt", b"x" * 70_000) + END,), 413, "form_too_large", "prompt"),
    Broken(
        "endless fields",
        (b"".join(part(f"f{n}", b"") for n in range(200)) + END,),
        413,
        "form_too_large",
        "f128",
    ),
    Broken("too large", (part("file", bytes(2 << 20), filename="a") + END,), 413, "upload_too_large", "file"),
]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.id)
async def test_a_broken_form_is_refused(case: Broken, tmp_path: Path) -> None:
    found = await problem(tmp_path, *case.chunks)
    assert (found.status, found.code, found.param) == (case.status, case.code, case.param)


async def test_an_upload_that_stalls(tmp_path: Path) -> None:
    async def silent() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    with Form() as form, pytest.raises(EngineError) as caught:
        await read_form(silent, MARK, replace(limits(tmp_path), idle_seconds=0.05), form)
    assert (caught.value.problem.status, caught.value.problem.code) == (408, "upload_stalled")


async def test_a_client_that_hangs_up(tmp_path: Path) -> None:
    with Form() as form, pytest.raises(ClientGone):
        await read_form(receiving(BODY[:50], last=False), MARK, limits(tmp_path), form)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process may grow past 64 KiB: a full volume without a mount."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_spool_is_a_refusal_that_says_where(tmp_path: Path, full_disk: None) -> None:
    found = await problem(tmp_path, part("file", bytes(1 << 19), filename="x") + END)
    assert (found.status, found.code) == (503, "spool_full")
    assert found.headers == {"X-Roundhouse-Reason": "full", "Retry-After": "5"}
    assert repr(str(tmp_path)) in found.message


async def test_a_spool_that_is_gone_is_the_same_refusal(tmp_path: Path) -> None:
    gone = replace(limits(tmp_path), spool_dir=tmp_path / "gone")
    found = await problem(tmp_path, BODY + END, within=gone)
    assert (found.status, found.code) == (503, "spool_full")
    assert "No such file" in found.message


def test_what_is_no_form_or_too_large_by_its_own_word(tmp_path: Path) -> None:
    form_type = {"content-type": f"multipart/form-data; boundary={MARK}"}
    assert boundary(form_type, limits(tmp_path)) == MARK
    for headers, status in [
        ({}, 415),
        ({"content-type": "application/json"}, 415),
        ({"content-type": "multipart/form-data"}, 415),
        (form_type | {"content-length": str(2 << 20)}, 413),
    ]:
        with pytest.raises(EngineError) as caught:
            boundary(headers, limits(tmp_path))
        assert caught.value.problem.status == status


async def test_a_request_that_is_ended_waits_for_what_it_is_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its file is closed meanwhile, and another's may get its number."""
    writes, may_write, closed_early = asyncio.Event(), threading.Event(), list[bool]()
    loop = asyncio.get_running_loop()

    def write(file: BinaryIO, _: bytes) -> None:
        loop.call_soon_threadsafe(writes.set)
        assert may_write.wait(60)
        closed_early.append(file.closed)

    monkeypatch.setattr("roundhouse_engine.upload._write_all", write)
    reading = asyncio.create_task(read(tmp_path, BODY + END))
    await asyncio.wait_for(writes.wait(), 60)
    reading.cancel()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not reading.done()
    may_write.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert closed_early == [False]
