"""Log lines: one JSON object each for machines, or plain text for people. None holds a secret."""

import json
import logging
import sys
from typing import Final

from typing_extensions import override

from .redact import Redactor
from .settings import LogFormat

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Formatter(logging.Formatter):
    def __init__(self, style: LogFormat, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")
        self._form = style
        self._redact = redact

    @override
    def format(self, record: logging.LogRecord) -> str:
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if self._form == "text":
            told = "".join(f" {key}={value}" for key, value in extra.items())
            return self._redact(super().format(record) + told)
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **extra,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return self._redact(json.dumps(line, ensure_ascii=False, default=str))


def configure(level: str, style: LogFormat, redact: Redactor) -> None:
    """Send everything to standard error. Clients' own lines show from warnings on: they name addresses."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(style, redact))
    logging.basicConfig(level="WARNING", handlers=[handler], force=True)
    logging.getLogger("roundhouse_loader").setLevel(level)
    logging.captureWarnings(capture=True)
