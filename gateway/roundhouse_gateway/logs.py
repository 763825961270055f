"""Lines of the log on standard output: one JSON object each, or text for people."""

import logging
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import BinaryIO, Literal

import msgspec
from typing_extensions import override

from roundhouse_api.keys import PREFIX

_KEY = re.compile(rf"({PREFIX}[a-z0-9]{{1,32}}_)[A-Za-z0-9]+")
_LEVELS = {"uvicorn": logging.WARNING, "asyncio": logging.WARNING}


def masked(line: str) -> str:
    """Without the secrets of API keys, which people also send where no key belongs: in a path or an id."""
    return _KEY.sub(r"\1…", line) if PREFIX in line else line


class JsonFormatter(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return masked(msgspec.json.encode(line).decode())


class RequestLog:
    """The line of each request. As JSON it goes past `logging`, which takes longer than the rest of it."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("roundhouse.gateway.access")
        self.stream: BinaryIO | None = None
        """Where lines of JSON go; without it `logging` has them."""

    def write(self, message: str, fields: dict[str, object]) -> None:
        if not self._logger.isEnabledFor(logging.INFO):
            return
        if self.stream is None:
            self._logger.info(message, extra={"fields": fields})
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        head = {"time": now, "level": "info", "logger": self._logger.name, "message": message}
        with suppress(OSError):  # as `logging` does: nobody is left to be told
            self.stream.write(masked(msgspec.json.encode(head | fields).decode()).encode() + b"\n")
            self.stream.flush()


request_log = RequestLog()


class TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    @override
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        return masked(
            " ".join([super().format(record), *(f"{name}={value}" for name, value in fields.items())])
        )


def configure(level: str, form: Literal["json", "text"]) -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    request_log.stream = sys.stdout.buffer if form == "json" else None
    for name, least in _LEVELS.items():
        logging.getLogger(name).setLevel(max(least, logging.getLogger().level))
