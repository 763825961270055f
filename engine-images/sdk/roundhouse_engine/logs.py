"""Log lines: one JSON object each for machines, or plain text for people. Never what was said or sent."""

import json
import logging
import sys
from typing import Final

from typing_extensions import override

_KNOWN: Final = {"message", "asctime", "taskName", "color_message"}
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | _KNOWN


class JSONFormatter(logging.Formatter):
    """The record's message, and what the call put into `extra`."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str, style: str) -> None:
    """Send everything to standard error, in one of the two styles."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JSONFormatter() if style == "json" else plain)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Its lines of WebSockets hold their queries, and so what a client sent.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_no_refusal)


def _is_no_refusal(record: logging.LogRecord) -> bool:
    """A handshake that was refused in good order is an error to uvicorn, and a full engine's daily work."""
    return "without completing handshake" not in record.getMessage()
