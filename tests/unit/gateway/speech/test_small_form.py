"""A form that is split by bytes reads as the parser of forms reads it, or not at all."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roundhouse_gateway.errors import InvalidRequestError
from roundhouse_gateway.form import Field, FileEnd, FileStart, FormParser
from roundhouse_gateway.speech.small_form import read_fields, split

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

# What clients write, with what looks like it, and with what would cut it elsewhere.
heads = st.sampled_from(
    [
        b'Content-Disposition: form-data; name="model"',
        b'content-disposition: form-data; name="timestamp_granularities[]"',
        b'Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name="prompt"',
        b'Content-Disposition: form-data; name="file"; filename="a b.wav"\r\nContent-Type: audio/wav',
        b'Content-Disposition: form-data; name="file"; filename="\xc3\xa4.wav"',
        b'Content-Disposition: form-data; name="file"; filename="\xff.wav"',
        b'Content-Disposition: form-data; name="file"; filename="C:\\\\a.wav"',
        b'Content-Disposition: form-data; name="file"; filename="\xc2\x85.wav"',
        b'Content-Type: audio/mp4; codecs=opus\r\nContent-Disposition: form-data; name="file"; filename="x"',
        b'Content-Disposition: form-data; name="file"',
        b"Content-Disposition: form-data; name=model",
        b'Content-Disposition: form-data; name="model"\r\nContent-Length: 3',
        b'Content-Disposition: attachment; name="model"',
        b"X-Odd: 1",
        b"",
    ]
)
contents = st.lists(
    st.sampled_from(
        [
            b"",
            b"a",
            b"\r\n",
            b"\n",
            b"--",
            b"\r\n--in-coming",
            b"--in-coming\r\n",
            b'name="file"',
            b"\x00\xff",
            b"\r\n\r\n",
        ]
    ),
    max_size=5,
).map(b"".join)
endings = st.sampled_from([END, b"--in-coming--", b"--in-coming--\r\nmore", b"--in-coming\r\n", b""])


@given(st.lists(st.builds(part, heads, contents), max_size=5).map(b"".join), endings)
@example(MODEL + FILE, END)
@example(MODEL + FILE.replace(b"RIFF", b"RIFF\r\n--in-coming-not"), END)
@example(MODEL + FILE + FILE, END)
def test_it_is_read_as_the_parser_reads_it(parts: bytes, ending: bytes) -> None:
    body = parts + ending
    found = at_a_glance(body)
    if found is not None:
        assert found == parsed(body)


@pytest.mark.parametrize("body", [MODEL + FILE + END, FILE + MODEL + END, FILE + b"--in-coming--"])
def test_what_clients_write_is_read(body: bytes) -> None:
    assert at_a_glance(body) == parsed(body) is not None


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
