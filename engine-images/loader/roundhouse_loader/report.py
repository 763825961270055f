"""How the loader tells its end: a line of JSON that the kubelet puts into the pod's status."""

import json
import logging
from pathlib import Path
from typing import Final

from .failure import LoadError
from .load import Loaded
from .redact import Redactor

MOST_BYTES: Final = 4096
"""The kubelet cuts a longer message, and cut JSON is none."""

SWEPT: Final[dict[str, str | int | bool]] = {"result": "Swept"}

log = logging.getLogger(__name__)


def complete(loaded: Loaded) -> dict[str, str | int | bool]:
    said = loaded.found.as_json()
    del said["files"]
    return {"result": "Complete", **said, "fetched": loaded.fetched}


def failed(error: LoadError, redact: Redactor) -> dict[str, str | int | bool]:
    message = redact(error.message)
    return {
        "result": "Failed",
        "reason": error.reason.value,
        "message": message,
        "retryable": error.retryable,
    }


def write(path: Path, said: dict[str, str | int | bool]) -> None:
    """Leave the message where the kubelet looks; where it cannot be written, the log has it."""
    try:
        path.write_bytes(encoded(said))
    except OSError as error:
        log.warning("no termination message", extra={"path": str(path), "error": str(error)})


def encoded(said: dict[str, str | int | bool]) -> bytes:
    """As JSON of at most MOST_BYTES: the message is shortened to fit."""
    text = json.dumps(said).encode()
    while len(text) > MOST_BYTES:
        message = str(said["message"])
        said = {**said, "message": f"{message[: len(message) * 3 // 4]}…"}
        text = json.dumps(said).encode()
    return text
