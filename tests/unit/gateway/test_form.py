"""Forms are read and framed anew, whatever the pieces they come in."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_gateway.errors import InvalidRequestError, MalformedUploadError, NotMultipartError
from roundhouse_gateway.form import (
    MAX_ALL_FIELDS_BYTES,
    Field,
    FileEnd,
    FileStart,
    FormEvent,
    FormParser,
    FormWriter,
    boundary_of,
)
from roundhouse_gateway.transcription_request import is_forwarded

BOUNDARY = "in-coming"


def events_of(body: bytes, cuts: list[int]) -> list[FormEvent]:
    """All events of a body that comes in pieces."""
    parser = FormParser(BOUNDARY)
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    events: list[FormEvent] = []
    for start, end in pairwise(places):
        if start < end:
            events += parser.feed(body[start:end])
    parser.close()
    return events


def forwarded(events: list[FormEvent]) -> bytes:
    """The form as an engine gets it, its model named anew."""
    writer = FormWriter("out-going")
    sent = writer.field("model", b"engine-model")
    for event in events:
        match event:
            case Field():
                sent += writer.field(event.name, event.value) if is_forwarded(event) else b""
            case FileStart():
                sent += writer.file_start(event)
            case bytes():
                sent += event
            case FileEnd():
                sent += writer.file_end()
    return sent + writer.close()


# Content that looks like what separates it is the hard case.
tricky = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b"--", b"--in-coming", b"\r\n--in", b"in-coming", b"\x00\xff", b"a"]
    )
).map(b"".join)
content = (st.binary(max_size=200) | tricky).filter(lambda each: b"\r\n--in-coming" not in b"\r\n" + each)
names = st.sampled_from(["model", "language", "prompt", "timestamp_granularities[]", "tier", 'odd "%" name'])
fields = st.builds(Field, name=names, value=content)
files = st.builds(
    FileStart,
    filename=st.text(
        st.characters(exclude_categories=["C"], exclude_characters='\\%"'), min_size=1, max_size=20
    ),
    content_type=st.sampled_from(["audio/wav", "application/octet-stream"]),
)


@given(st.lists(fields, max_size=4), files, content, st.lists(fields, max_size=3), st.lists(st.integers(0)))
def test_any_split_of_the_bytes_gives_the_same_forwarded_form(
    before: list[Field], file: FileStart, audio: bytes, after: list[Field], cuts: list[int]
) -> None:
    writer = FormWriter(BOUNDARY)
    body = b"".join(writer.field(each.name, each.value) for each in before)
    body += writer.file_start(file) + audio + writer.file_end()
    body += b"".join(writer.field(each.name, each.value) for each in after) + writer.close()

    whole = events_of(body, [])
    pieces = events_of(body, cuts)
    assert forwarded(pieces) == forwarded(whole)
    assert [event for event in pieces if isinstance(event, Field)] == [*before, *after]
    assert [event for event in pieces if isinstance(event, FileStart)] == [file]
    assert b"".join(event for event in pieces if isinstance(event, bytes)) == audio
    assert [event for event in pieces if isinstance(event, FileEnd)] == [FileEnd(len(audio))]


@given(st.binary(max_size=300) | tricky, st.lists(st.integers(0)))
def test_rubbish_is_read_or_refused_and_never_a_fault(rubbish: bytes, cuts: list[int]) -> None:
    body = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n'.encode() + rubbish
    with suppress(InvalidRequestError):
        events_of(body, cuts)


def test_a_form_that_ends_without_its_closing_boundary_was_cut_off() -> None:
    writer = FormWriter(BOUNDARY)
    with pytest.raises(MalformedUploadError, match="cut off"):
        events_of(writer.field("model", b"x"), [])


def test_fields_are_bounded_together() -> None:
    writer = FormWriter(BOUNDARY)
    field = writer.field("x", b"a" * 60_000)
    with pytest.raises(InvalidRequestError, match=str(MAX_ALL_FIELDS_BYTES)):
        events_of(field * 5 + writer.close(), [])


def test_control_characters_cannot_reach_the_engines_form() -> None:
    disposition = 'Content-Disposition: form-data; name="file"; filename="a\0\x1b\u202fb.wav"'
    part = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: audio/wav\rX-Evil: 1\r\n\r\nx\r\n"
    (start, *_) = events_of(part.encode() + FormWriter(BOUNDARY).close(), [])
    assert start == FileStart("a\u202fb.wav", "audio/wavX-Evil: 1")


@pytest.mark.parametrize("name", ["a\0b", "a\rX-Evil: 1", "\x1b[31m"])
def test_a_field_whose_name_holds_a_control_character_is_refused(name: str) -> None:
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\nx\r\n'
    with pytest.raises(InvalidRequestError, match="control character"):
        events_of(part.encode(), [])


def test_a_name_that_is_not_utf8_is_refused_in_words() -> None:
    part = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=".encode() + b'"\xff"\r\n\r\nx\r\n'
    with pytest.raises(MalformedUploadError) as raised:
        events_of(part, [])
    assert str(raised.value) == "The multipart body is broken: Segment header failed to decode."


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ('multipart/form-data; charset=utf-8; boundary="a b c"', "a b c"),
        ("Multipart/Form-Data; Boundary=abc", "abc"),
    ],
)
def test_the_boundary_is_read(content_type: str, boundary: str) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        f"multipart/form-data; boundary={'x' * 71}",
        "multipart/mixed",
    ],
)
def test_what_is_no_form_is_refused(content_type: str) -> None:
    with pytest.raises(NotMultipartError):
        boundary_of(content_type)
