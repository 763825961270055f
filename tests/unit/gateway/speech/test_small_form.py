"""A form that is split by bytes reads as the parser of forms reads it, or not at all."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from roundhouse_gateway.errors import GatewayError, InvalidRequestError
from roundhouse_gateway.form import Field, FileEnd, FileStart, FormParser, boundary_of
from roundhouse_gateway.speech.small_form import read_fields, split
from roundhouse_gateway.text.asking import boundary_in

BOUNDARY = b"in-coming"
Read = tuple[list[Field], list[FileStart], bytes]


def parsed(body: bytes) -> Read | None:
    """By the parser; None where it refuses."""
    parser = FormParser(BOUNDARY.decode())
    fields, files, content = [], [], b""
    try:
        for event in parser.feed(body):
            match event:
                case Field():
                    fields.append(event)
                case FileStart():
                    files.append(event)
                case bytes():
                    content += event
                case FileEnd():
                    pass
        parser.close()
    except InvalidRequestError:
        return None
    return fields, files, content


def at_a_glance(body: bytes) -> Read | None:
    form = split(body, BOUNDARY)
    fields = read_fields(form.fields) if form else None
    return None if form is None or fields is None else (fields, [form.file], bytes(form.content))


def part(head: bytes, content: bytes) -> bytes:
    return b"--in-coming\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


FILE = part(
    b'Content-Disposition: form-data; name="file"; filename="speech.wav"\r\nContent-Type: audio/x-wav',
    b"RIFF",
)
MODEL = part(b'Content-Disposition: form-data; name="model"', b"whisper-base")
END = b"--in-coming--\r\n"

# What clients write.
FIELD_HEADS = [
    b'Content-Disposition: form-data; name="model"',
    b'content-disposition: form-data; name="timestamp_granularities[]"',
    b'Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name="prompt"',
    b'Content-Disposition: form-data; name="language"\r\ncontent-type: text/plain',
    b'Content-Disposition: form-data; name="FILE"',
]
FILE_HEADS = [
    b'Content-Disposition: form-data; name="file"; filename="a b.wav"\r\nContent-Type: audio/wav',
    b'Content-Disposition: form-data; name="file"; filename="\xc3\xa4.wav"',
    b'Content-Disposition: form-data; name="file"; filename="a; name=x.wav"',
    b'Content-Type: audio/mp4; codecs=opus\r\nContent-Disposition: form-data; name="file"; filename="x"',
]
# What looks like it, and is read otherwise or refused.
ODD_HEADS = [
    b'Content-Disposition: form-data; name="file"; filename="\xff.wav"',
    b'Content-Disposition: form-data; name="file"; filename="C:\\\\a.wav"',
    b'Content-Disposition: form-data; name="file"; filename="\xc2\x85.wav"',
    b'Content-Disposition: form-data; name="file"; filename="\xe2\x80\xa8.wav"',
    b'Content-Disposition: form-data; name="FILE"; filename="a.wav"',
    b'Content-Disposition: form-data; name="File"; filename="a.wav"',
    b'Content-Disposition: form-data; NAME="file"; FILENAME="a.wav"',
    b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: a/' + b"b" * 9000,
    b'Content-Disposition: form-data; name="prompt"\r\nContent-Type: a/' + b"b" * 9000,
    b'Content-Disposition: form-data; name="file"',
    b"Content-Disposition: form-data; name=model",
    b'Content-Disposition: form-data; name="model"\r\nContent-Length: 3',
    b'Content-Disposition: form-data; name="model"\r\nContent-Length: 9999',
    b'Content-Disposition: attachment; name="model"',
    b"X-Odd: 1",
    b"",
]
texts = st.lists(
    st.sampled_from(
        [b"a", b"\r\n", b"\n", b"--", b"\r\n--in-comin", b'name="file"', b"\x00\xff", b"\r\n\r\n"]
    ),
    max_size=5,
).map(b"".join)
fields = st.builds(part, st.sampled_from(FIELD_HEADS), texts)
files = st.builds(part, st.sampled_from(FILE_HEADS), texts.map(b"R".__add__))
written = st.builds(
    lambda before, file, after: [*before, file, *after],
    st.lists(fields, max_size=3),
    files,
    st.lists(fields, max_size=3),
)
"""The parts of a form as clients write it."""
odd = st.one_of(
    st.builds(part, st.sampled_from(ODD_HEADS), texts),
    files,
    st.sampled_from([b"--in-coming\r\n", b"\r\n--in-coming", b"--in-coming--\r\n", b"\r\n", b"more"]),
)


@given(written, st.sampled_from([END, b"--in-coming--"]))
@example([MODEL, FILE.replace(b"RIFF", b"RIFF\r\n--in-comin\r\n")], END)
def test_what_clients_write_is_read(parts: list[bytes], ending: bytes) -> None:
    body = b"".join(parts) + ending
    assert at_a_glance(body) == parsed(body) is not None


@given(written, odd, st.integers(0, 6))
@example([MODEL, FILE], FILE, 2)
@example([MODEL, FILE], b"", 0)
def test_with_something_odd_it_is_read_as_the_parser_reads_it(
    parts: list[bytes], more: bytes, at: int
) -> None:
    at = min(at, len(parts))
    body = b"".join([*parts[:at], more, *parts[at:], END])
    found = at_a_glance(body)
    if found is not None:
        assert found == parsed(body)


@settings(max_examples=40)
@given(written, st.sampled_from(b'\r\n-: ;="/aF\x00\xff'))
def test_with_any_byte_changed_it_is_read_as_the_parser_reads_it(parts: list[bytes], byte: int) -> None:
    body = b"".join(parts) + END
    for at in range(len(body)):
        changed = body[:at] + bytes([byte]) + body[at + 1 :]
        if (found := at_a_glance(changed)) is not None:
            assert found == parsed(changed)


@pytest.mark.parametrize("head", ODD_HEADS)
def test_a_head_that_is_written_otherwise_is_left_to_the_parser(head: bytes) -> None:
    assert at_a_glance(MODEL + part(head, b"RIFF") + END) is None
    assert at_a_glance(MODEL + FILE + part(head, b"RIFF") + END) is None


@pytest.mark.parametrize(
    "body",
    [
        MODEL + END,
        MODEL + FILE,
        MODEL + FILE.replace(b"RIFF", b"") + END,
        MODEL + FILE + FILE + END,
        b"preamble\r\n" + MODEL + FILE + END,
        b"",
    ],
)
def test_what_is_wrong_or_odd_is_left_to_the_parser(body: bytes) -> None:
    assert at_a_glance(body) is None


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ([b"multipart/form-data; boundary=x"], True),
        ([b"Multipart/Form-Data;boundary=a+b.c_d-1"], True),
        ([b'multipart/form-data; boundary="a:b"'], True),
        ([b"multipart/form-data; boundary=a:b"], False),
        ([b'multipart/form-data; boundary="a'], False),
        ([b"multipart/form-data; boundary=x; charset=utf-8"], False),
        ([b"application/json", b"multipart/form-data; boundary=x"], False),
        ([b"multipart/form-data; boundary=x", b"multipart/form-data; boundary=y"], False),
        ([b"multipart/form-data; boundary=x", b"multipart/form-data; boundary=x"], False),
        ([], False),
    ],
)
def test_its_boundary_is_that_of_the_ordinary_route(said: list[bytes], *, read: bool) -> None:
    headers = [(b"host", b"x"), *((b"content-type", each) for each in said)]
    found = boundary_in(headers)
    assert bool(found) is read
    try:
        ordinary = boundary_of(Headers(raw=headers).get("content-type", ""))
    except GatewayError:
        ordinary = ""
    assert found in (b"", ordinary.encode())
