"""The form that an engine is sent: the client's own, with the engine's name of the model in it.

`IncomingForm` reads up to the file. From there a `LiveBody` passes the rest on as it comes and can be sent
once; a `SpooledBody` was read to its end first and can be sent again. What else of the form an engine is to
see, and in which words, is for a `Rewrite` to say.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from roundhouse_gateway.errors import (
    ClientGoneError,
    GatewayError,
    InvalidRequestError,
    MissingFieldError,
)
from roundhouse_gateway.form import FILE_FIELD, Field, FileEnd, FileStart, FormEvent, FormParser, FormWriter
from roundhouse_gateway.spool import SpooledFile
from roundhouse_gateway.upload import Upload


class IncomingForm:
    """A form being read: its fields so far, and its file's head once that has come."""

    def __init__(self, upload: Upload, boundary: str) -> None:
        self._upload = upload
        self._parser = FormParser(boundary)
        self.fields: list[Field] = []
        self.file = FileStart("audio", "application/octet-stream")
        self.events = self._read()

    async def _read(self) -> AsyncIterator[FormEvent]:
        async for chunk in self._upload.chunks():
            for event in self._parser.feed(chunk):
                if isinstance(event, Field):
                    self.fields.append(event)
                elif isinstance(event, FileEnd) and event.size == 0:
                    raise InvalidRequestError("`file` is empty; send the audio itself.", param=FILE_FIELD)
                yield event
        self._parser.close()

    async def until_audio(self) -> bytes:
        """Reads fields until the file has begun; its first bytes."""
        async for event in self.events:
            if isinstance(event, FileStart):
                self.file = event
            elif isinstance(event, bytes):
                return event
        raise MissingFieldError(
            "The form has no `file`; send the audio in a part of that name.", param=FILE_FIELD
        )

    async def spool_rest(self, first: bytes, spooled: SpooledFile) -> None:
        """Reads the form to its end, the file into `spooled`."""
        spooled.write(first)
        async for event in self.events:
            if isinstance(event, bytes):
                spooled.write(event)


class Rewrite(Protocol):
    """What becomes of a client's form on its way to one engine."""

    def check(self, fields: Sequence[Field], *, complete: bool) -> None:
        """Raises what is wrong with the fields so far; `complete` says that no more follow."""

    def passes(self, field: Field) -> bool:
        """Whether the engine sees the field as the client sent it."""

    def file(self, file: FileStart) -> tuple[FileStart, bytes]:
        """The head of the file that the engine sees, and bytes that come before the client's own."""

    def added(self, fields: Sequence[Field]) -> Sequence[Field]:
        """What the engine is told besides, after the file, once all the client's fields are known."""


class Body(Protocol):
    """What is sent to an engine. `failure` says why it broke off, where that was not the engine's doing."""

    failure: GatewayError | ClientGoneError | None
    begun: bool
    """Whether the call that is under way got to see any of it."""
    on_progress: Callable[[], None]

    @property
    def content_type(self) -> str: ...

    @property
    def can_be_sent(self) -> bool: ...

    def chunks(self) -> AsyncIterator[bytes]: ...


def nobody_waits() -> None:
    """Progress that nobody waits for."""


class LiveBody:
    """Sent while it is being read. The fields are checked again each time one follows the file."""

    def __init__(self, form: IncomingForm, first: bytes, model_name: str, rewrite: Rewrite) -> None:
        self._form = form
        self._first = first
        self._rewrite = rewrite
        self._writer = FormWriter()
        self._head = _head(self._writer, form, model_name, rewrite)
        self._started = False
        self.begun = False
        self.failure: GatewayError | ClientGoneError | None = None
        self.on_progress: Callable[[], None] = nobody_waits

    @property
    def content_type(self) -> str:
        return self._writer.content_type

    @property
    def can_be_sent(self) -> bool:
        return not self._started

    async def chunks(self) -> AsyncIterator[bytes]:
        self._started = self.begun = True
        try:
            yield self._head + self._first
            async for event in self._form.events:
                self.on_progress()
                if piece := self._framed(event):
                    yield piece
            self._rewrite.check(self._form.fields, complete=True)
        except (GatewayError, ClientGoneError) as error:
            self.failure = error
            raise
        yield _tail(self._writer, self._form, self._rewrite)

    def _framed(self, event: FormEvent) -> bytes:
        match event:
            case bytes():
                return event
            case FileEnd():
                return self._writer.file_end()
            case Field():
                self._rewrite.check(self._form.fields, complete=False)
                passes = self._rewrite.passes(event)
                return self._writer.field(event.name, event.value) if passes else b""
            case FileStart():
                return b""


class SpooledBody:
    """Sent from disk, as often as it takes."""

    can_be_sent = True

    def __init__(self, form: IncomingForm, spooled: SpooledFile, model_name: str, rewrite: Rewrite) -> None:
        self._spooled = spooled
        self._writer = FormWriter()
        self._head = _head(self._writer, form, model_name, rewrite)
        self._tail = _tail(self._writer, form, rewrite)
        self.begun = False
        self.failure: GatewayError | ClientGoneError | None = None
        self.on_progress: Callable[[], None] = nobody_waits

    @property
    def content_type(self) -> str:
        return self._writer.content_type

    async def chunks(self) -> AsyncIterator[bytes]:
        self.begun = True
        yield self._head
        for piece in self._spooled.pieces():
            self.on_progress()
            yield piece
        yield self._writer.file_end() + self._tail


def _head(writer: FormWriter, form: IncomingForm, model_name: str, rewrite: Rewrite) -> bytes:
    """All fields that are known and pass, the model first, and the beginning of the file."""
    fields = (Field("model", model_name.encode()), *filter(rewrite.passes, form.fields))
    file, begin = rewrite.file(form.file)
    framed = b"".join(writer.field(field.name, field.value) for field in fields)
    return framed + writer.file_start(file) + begin


def _tail(writer: FormWriter, form: IncomingForm, rewrite: Rewrite) -> bytes:
    """What stands after the file's end."""
    added = rewrite.added(form.fields)
    return b"".join(writer.field(field.name, field.value) for field in added) + writer.close()
