"""Lines of the log on standard error: one JSON object each, or text for people.

A line that is written during a pass carries the resource that the pass is about; `extra={"reason": …}`
says in one word what the line tells.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

from typing_extensions import override

from roundhouse_operator.core.kinds import Key
from roundhouse_operator.settings import LogFormat, LogLevel

_CONCERNS: Final[ContextVar[Key | None]] = ContextVar("concerns", default=None)


def concerning(key: Key | None) -> None:
    """From here on, in this task, lines are about the resource."""
    _CONCERNS.set(key)


class JsonFormatter(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "reason": str(getattr(record, "reason", "Told")),
            "message": record.getMessage(),
        }
        if key := _CONCERNS.get():
            line["resource"] = {"kind": key.kind.name, "namespace": key.namespace, "name": key.name}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(level: LogLevel, form: LogFormat) -> None:
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Libraries tell of every request; what matters of it is told here.
    for library in ("kopf", "aiohttp.access", "asyncio", "kubernetes"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
