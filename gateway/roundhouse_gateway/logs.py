"""Lines of the log on standard output: one JSON object each, or text for people.

Several workers write to one pipe, which keeps a write whole up to `PIPE_BUF`: so no write has more, but for a
line that is longer by itself. Lines say which worker wrote them, where there are several.
"""

import asyncio
import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from select import PIPE_BUF
from typing import BinaryIO, Literal

import msgspec
from typing_extensions import override

from roundhouse_api.keys import PREFIX
from roundhouse_gateway.usage import Usage

_KEY = re.compile(rf"({PREFIX}[a-z0-9]{{1,32}}_)[A-Za-z0-9]+")
_PREFIX = PREFIX.encode()
_MOST_KNOWN = 1024
_LONGEST_KNOWN = 1024
FLUSH_SECONDS = 0.02
"""How long lines of requests may wait to be written together: writing each takes a tenth of a request."""
MOST_WAITING = 1000
_ENCODER = msgspec.json.Encoder()
_NO_NEWS = frozenset(
    {
        "ASGI callable returned without completing response.",
        "ASGI callable returned without completing handshake.",
    }
)
"""What the server says of an answer that is cut, and of a handshake that was refused and whose connection is
not closed at once, as over TLS. Both are done on purpose alone, and their own line tells why."""
_LEVELS = {"uvicorn": logging.WARNING, "asyncio": logging.WARNING}


def masked(line: str) -> str:
    """Without the secrets of API keys, which people also send where no key belongs: in a path or an id."""
    return _KEY.sub(r"\1…", line) if PREFIX in line else line


def in_whole_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """As few pieces as a pipe keeps whole."""
    piece, size = list[bytes](), 0
    for line in lines:
        if piece and size + len(line) > PIPE_BUF:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece)


class JsonFormatter(logging.Formatter):
    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._worker,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return masked(msgspec.json.encode(line).decode())


class Line(msgspec.Struct, omit_defaults=True):
    """What the access log says of one request; what is not known is left out."""

    request_id: str
    client: str
    route: str
    model: str
    status: int
    upload_bytes: int
    seconds: float | None = None
    first_byte_seconds: float | None = None
    key_id: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    audio_seconds: float | None = None
    note: str = ""

    def fields(self) -> dict[str, object]:
        """As `logging` takes them along."""
        found: dict[str, object] = msgspec.to_builtins(self)
        return found


Alike = tuple[str, str, int, str, str, str, str]
"""What lines have in common: method, path, status, client, route, model and key's id."""


class RequestLog:
    """The line of each request. As JSON it goes past `logging`, which takes longer than the rest of it.

    What is said within a moment is written in one go. What many lines have in common is encoded once, and
    searched for secrets once.
    """

    def __init__(self) -> None:
        self._logger = logging.getLogger("roundhouse.gateway.access")
        self._head = b""
        self.worker = None
        self._second = self._millisecond = 0
        self._time = self._begun = b""
        self._lines: list[bytes] = []
        self._alike: dict[Alike, bytes] = {}
        self.stream: BinaryIO | None = None
        """Where lines of JSON go; without it `logging` has them."""

    @property
    def worker(self) -> int | None:
        """Whose lines these are, where there are several."""
        return self._worker

    @worker.setter
    def worker(self, worker: int | None) -> None:
        self._worker = worker
        whose = "" if worker is None else f'"worker":{worker},'
        self._head = f'","level":"info","logger":"{self._logger.name}",{whose}"message":'.encode()

    def is_wanted(self) -> bool:
        return self._logger.isEnabledFor(logging.INFO)

    def write(self, message: str, line: Line) -> None:
        """Where it is wanted."""
        if self.stream is None:
            self._logger.info(message, extra={"fields": line.fields()})
            return
        said = b"%s%s,%s\n" % (self._beginning(), _ENCODER.encode(message), _ENCODER.encode(line)[1:])
        self._say(masked(said.decode()).encode() if _PREFIX in said else said)

    def write_plain(  # noqa: PLR0913, PLR0917 - a line for each request, without an object for each line
        self,
        alike: Alike,
        request_id: str,
        upload_bytes: int,
        seconds: float,
        first_byte_seconds: float,
        usage: Usage,
    ) -> None:
        """The same, of a request of which there is nothing else to say; only where lines go to `stream`.

        The id is one that may stand in JSON as it is, and in a log.
        """
        tokens = b""
        if usage.input_tokens:
            tokens = b',"input_tokens":%d' % usage.input_tokens
        if usage.output_tokens:
            tokens += b',"output_tokens":%d' % usage.output_tokens
        self._say(
            b'%s%s,"request_id":"%s","upload_bytes":%d,"seconds":%.6f,"first_byte_seconds":%.6f%s}\n'
            % (
                self._beginning(),
                self._alike.get(alike) or self._known(alike),
                request_id.encode(),
                upload_bytes,
                seconds,
                first_byte_seconds,
                tokens,
            )
        )

    def _known(self, alike: Alike) -> bytes:
        method, path, status, client, route, model, key_id = alike
        fields = {"client": client, "route": route, "model": model, "status": status}
        if key_id:
            fields["key_id"] = key_id
        message = _ENCODER.encode(f"{method} {path} {status}")
        said = masked((b"%s,%s" % (message, _ENCODER.encode(fields)[1:-1])).decode()).encode()
        if len(self._alike) >= _MOST_KNOWN:
            self._alike = {}
        if len(said) <= _LONGEST_KNOWN:
            self._alike[alike] = said
        return said

    def _beginning(self) -> bytes:
        now = int(time.time() * 1000)
        if now != self._millisecond:
            self._millisecond = now
            second, millisecond = divmod(now, 1000)
            if second != self._second:
                self._second = second
                moment = datetime.fromtimestamp(second, UTC)
                self._time = moment.strftime('{"time":"%Y-%m-%dT%H:%M:%S').encode()
            self._begun = b"%s.%03d+00:00%s" % (self._time, millisecond, self._head)
        return self._begun

    def _say(self, line: bytes) -> None:
        self._lines.append(line)
        if len(self._lines) == 1:
            self._write_soon()
        elif len(self._lines) >= MOST_WAITING:
            self.flush()

    def _write_soon(self) -> None:
        try:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        except RuntimeError:  # no loop runs, so nothing else is about to be said
            self.flush()

    def flush(self) -> None:
        """Also for the end of the process."""
        lines, self._lines = self._lines, []
        if lines and self.stream is not None:
            pieces = [b"".join(lines)] if self._worker is None else in_whole_lines(lines)
            with suppress(OSError):  # as `logging` does: nobody is left to be told
                for piece in pieces:
                    self.stream.write(piece)
                    self.stream.flush()


request_log = RequestLog()


class TextFormatter(logging.Formatter):
    def __init__(self, worker: int | None = None) -> None:
        whose = "" if worker is None else f" [{worker}]"
        super().__init__(f"%(asctime)s %(levelname)-7s %(name)s{whose}: %(message)s")

    @override
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        return masked(
            " ".join([super().format(record), *(f"{name}={value}" for name, value in fields.items())])
        )


def _is_news(record: logging.LogRecord) -> bool:
    return record.msg not in _NO_NEWS


def configure(level: str, form: Literal["json", "text"], worker: int | None = None) -> None:
    """For this process: `worker` is its number, where there are several."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(worker) if form == "json" else TextFormatter(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    request_log.worker = worker
    request_log.stream = sys.stdout.buffer if form == "json" else None
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    for name, least in _LEVELS.items():
        logging.getLogger(name).setLevel(max(least, logging.getLogger().level))
