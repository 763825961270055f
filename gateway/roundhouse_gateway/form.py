"""`multipart/form-data` as it arrives, and as it is sent on.

`FormParser` turns bytes, in whatever pieces they come, into fields and pieces of the one file; `FormWriter`
frames them again. No I/O here: who reads and writes is `upload` and `body`.
"""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    content_disposition_quote,
    parse_options_header,
)

from roundhouse_gateway.errors import InvalidRequestError, MalformedUploadError, NotMultipartError

MAX_FIELDS = 128
MAX_FIELD_BYTES = 64 * 1024
MAX_ALL_FIELDS_BYTES = 256 * 1024
FILE_FIELD = "file"
# They could make a header where none was, and readers of forms choke on them.
CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class FileStart:
    filename: str
    content_type: str


@dataclass(frozen=True, slots=True)
class FileEnd:
    size: int


FormEvent = Field | FileStart | bytes | FileEnd


def boundary_of(content_type: str) -> str:
    """The boundary that a Content-Type header names."""
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data":
        given = f"not {content_type!r}" if content_type else "and the Content-Type header is missing"
        raise NotMultipartError(f"The body must be multipart/form-data with the audio in `file`, {given}.")
    boundary: str = options.get("boundary", "")
    if not 1 <= len(boundary) <= 70:
        raise NotMultipartError("The Content-Type header has no boundary of 1 to 70 characters.")
    return boundary


class FormParser:
    """Events of a form, the same for every way to cut its bytes. A field is whole; a file comes in pieces."""

    def __init__(self, boundary: str) -> None:
        self._parser = PushMultipartParser(boundary, max_segment_count=MAX_FIELDS)
        self._name = ""
        self._value = bytearray()
        self._fields_bytes = 0
        self._file_size: int | None = None

    def feed(self, chunk: bytes) -> Iterator[FormEvent]:
        try:
            for event in self._parser.parse(chunk):
                yield from self._translate(event)
        except ParserLimitReached as error:
            raise InvalidRequestError(
                f"The form has too many fields or too long headers: {error}."
            ) from error
        except MultipartError as error:
            raise MalformedUploadError(f"The multipart body is broken: {error.args[0]}.") from error

    def close(self) -> None:
        """The body has ended: it must have ended with its closing boundary."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise MalformedUploadError(
                "The upload was cut off: the multipart body ends before its closing boundary."
            ) from error

    def _translate(self, event: MultipartSegment | bytes | None) -> Iterator[FormEvent]:
        if isinstance(event, MultipartSegment):
            yield from self._on_start(event)
        elif event is None:
            yield self._on_end()
        elif self._name == FILE_FIELD:
            self._file_size = (self._file_size or 0) + len(event)
            yield bytes(event)
        else:
            self._on_value(event)

    def _on_start(self, segment: MultipartSegment) -> Iterator[FormEvent]:
        if CONTROL_CHARACTERS.search(segment.name):
            raise InvalidRequestError(f"The name of a field holds a control character: {segment.name!r}.")
        self._name = segment.name
        self._value.clear()
        if segment.name != FILE_FIELD:
            return
        if self._file_size is not None:
            raise InvalidRequestError("The form holds `file` twice; send one.", param=FILE_FIELD)
        self._file_size = 0
        yield FileStart(
            CONTROL_CHARACTERS.sub("", segment.filename or "audio"),
            CONTROL_CHARACTERS.sub("", segment.header("Content-Type", "application/octet-stream")),
        )

    def _on_value(self, piece: bytes) -> None:
        self._value += piece
        self._fields_bytes += len(piece)
        if len(self._value) > MAX_FIELD_BYTES:
            raise InvalidRequestError(
                f"The field {self._name!r} is longer than {MAX_FIELD_BYTES} bytes.", param=self._name
            )
        if self._fields_bytes > MAX_ALL_FIELDS_BYTES:
            raise InvalidRequestError(f"The fields of the form hold more than {MAX_ALL_FIELDS_BYTES} bytes.")

    def _on_end(self) -> FormEvent:
        if self._name == FILE_FIELD:
            return FileEnd(self._file_size or 0)
        return Field(self._name, bytes(self._value))


class FormWriter:
    """Frames fields and one file as a form of its own boundary."""

    def __init__(self, boundary: str | None = None) -> None:
        self._boundary = boundary or f"roundhouse-{secrets.token_hex(16)}"

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self._boundary}"

    def field(self, name: str, value: bytes) -> bytes:
        return b"%s\r\n\r\n%s\r\n" % (self._disposition(name), value)

    def file_start(self, file: FileStart) -> bytes:
        filename = content_disposition_quote(file.filename)
        head = f"; filename={filename}\r\nContent-Type: {file.content_type}\r\n\r\n"
        return self._disposition(FILE_FIELD) + head.encode()

    def file_end(self) -> bytes:
        return b"\r\n"

    def close(self) -> bytes:
        return f"--{self._boundary}--\r\n".encode()

    def _disposition(self, name: str) -> bytes:
        quoted = content_disposition_quote(name)
        return f"--{self._boundary}\r\nContent-Disposition: form-data; name={quoted}".encode()
