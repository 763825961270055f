"""Reads a multipart form as it arrives: small fields into memory, the recording into a file without a name.

It decides what is too large, too slow or cut off; what the fields mean is decided in `ask`. The file has no
name, so that nothing is left in the spool however the process ends; its pages leave with its last descriptor.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import multipart

from roundhouse_engine.errors import EngineError, Problem, Refusal, invalid
from roundhouse_engine.showing import shown

Receive = Callable[[], Awaitable[Any]]

_FIELD_BYTES: Final = 64 * 1024
_PARTS: Final = 128
_FLUSH_BYTES: Final = 1 << 20


class ClientGone(Exception):  # noqa: N818 - no fault of ours
    """The client hung up before its request was whole; there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    total_bytes: int
    idle_seconds: float
    spool_dir: Path


@dataclass(slots=True)
class Form:
    """What was sent: the values of each field in order, and the recording, if there was one."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    file: BinaryIO | None = None
    file_bytes: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self.file is not None:
            self.file.close()


def boundary(headers: Mapping[str, str], limits: UploadLimits) -> str:
    """The form's boundary; raises for a body that is no form, or that says that it is too large."""
    kind, options = multipart.parse_options_header(headers.get("content-type", ""))
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise invalid(
            f"The body must be multipart/form-data with a boundary, not {shown(kind)}. "
            "Send the recording as the form's field 'file'.",
            code="unsupported_media_type",
            status=415,
        )
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > limits.total_bytes:
        raise _too_large(limits)
    return str(options["boundary"])


async def read_form(receive: Receive, mark: str, limits: UploadLimits, form: Form) -> None:
    """Fill `form` from the request's body; raises `EngineError` or `ClientGone`."""
    reader = _FormReader(mark, limits, form)
    try:
        more = True
        while more:
            message = await next_message(receive, limits.idle_seconds)
            await reader.feed(message.get("body", b""))
            more = message.get("more_body", False)
        await reader.finish()
    except multipart.ParserLimitReached as error:
        raise invalid(
            f"The form is too large: {error.args[0]}.", code="form_too_large", status=413
        ) from error
    except multipart.MultipartError as error:
        raise invalid(
            f"The form cannot be read: {error.args[0]}. Was the upload cut off?", code="form_malformed"
        ) from error


async def next_message(receive: Receive, idle_seconds: float) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(idle_seconds):
            message: Mapping[str, Any] = await receive()
    except TimeoutError:
        raise invalid(
            f"The upload stalled: nothing came for {idle_seconds:g} s.", code="upload_stalled", status=408
        ) from None
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


class _FormReader:
    """Turns the parser's events into the form, writing the recording outside of the event loop."""

    def __init__(self, mark: str, limits: UploadLimits, form: Form) -> None:
        # Not strict: that refuses a line break after the last boundary when it comes in a packet of its own.
        self._parser = multipart.PushMultipartParser(mark)
        self._limits = limits
        self._form = form
        self._received = self._parts = 0
        self._name = ""
        self._in_file = False
        self._text = bytearray()
        self._pending = bytearray()

    async def feed(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._limits.total_bytes:
            raise _too_large(self._limits)
        if not data:
            return  # an empty chunk is no end of the body, as the parser would take it
        for event in self._parser.parse(data):
            self._take(event)
        if len(self._pending) >= _FLUSH_BYTES:
            await self._flush()

    async def finish(self) -> None:
        self._parser.close()
        await self._flush()

    def _take(self, event: Any) -> None:  # noqa: ANN401 - the parser has no types
        if event is None:
            if not self._in_file:
                self._form.fields.setdefault(self._name, []).append(self._text.decode("utf-8", "replace"))
            self._text.clear()
        elif isinstance(event, bytes | bytearray):
            self._data(bytes(event))
        else:
            self._begin(event.name, is_file=event.filename is not None or event.name == "file")

    def _begin(self, name: str, *, is_file: bool) -> None:
        self._name = name
        self._in_file = is_file
        self._parts += 1
        if self._parts > _PARTS:
            raise invalid(
                f"The form has more than {_PARTS} fields: {shown(name)} is one too many. A list of words "
                "fits into one field, with commas.",
                param=name,
                code="form_too_large",
                status=413,
            )
        if not is_file:
            return
        if name != "file":
            raise invalid(
                f"The form has a file in the field {shown(name)}; the recording belongs in 'file'.",
                param=name,
            )
        if self._form.file is not None:
            raise invalid("The form has two recordings; send one in the field 'file'.", param="file")
        try:
            self._form.file = tempfile.TemporaryFile(dir=self._limits.spool_dir, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise _no_space(self._limits, error) from error

    def _data(self, data: bytes) -> None:
        if self._in_file:
            self._pending += data
            self._form.file_bytes += len(data)
            return
        self._text += data
        if len(self._text) > _FIELD_BYTES:
            raise invalid(
                f"The field {shown(self._name)} is longer than {_FIELD_BYTES} bytes.",
                param=self._name,
                code="form_too_large",
                status=413,
            )

    async def _flush(self) -> None:
        if self._form.file is None or not self._pending:
            return
        data, self._pending = bytes(self._pending), bytearray()
        writing = asyncio.ensure_future(asyncio.to_thread(_write_all, self._form.file, data))
        try:
            await asyncio.shield(writing)
        except OSError as error:
            raise _no_space(self._limits, error) from error
        finally:
            # Whoever ends the request closes its file, whose number may be another's before this is written.
            await asyncio.gather(writing, return_exceptions=True)


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _too_large(limits: UploadLimits) -> EngineError:
    return invalid(
        f"The upload is larger than this engine takes ({limits.total_bytes} bytes). "
        "Send a compressed recording (flac, mp3, ogg) or send it in parts.",
        param="file",
        code="upload_too_large",
        status=413,
    )


def _no_space(limits: UploadLimits, error: OSError) -> EngineError:
    return EngineError(
        Problem(
            503,
            "service_unavailable",
            "spool_full",
            f"The upload could not be kept in {str(limits.spool_dir)!r}: {error.strerror}. "
            "Try again later, or give the engine more room there.",
            None,
            Refusal.FULL,
            5,
        )
    )
