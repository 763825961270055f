"""What is seen of a cache: its Job, its claim, its record, and what loaders report. No decisions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

UNKNOWN = -1
WHY_LENGTH = 512
"""Of a refusal, as it is kept."""
ERROR_LENGTH = 512
"""Of what keeps bytes from coming."""
_LARGEST = 2**63 - 1
"""That a field of the API holds."""


@dataclass(frozen=True, slots=True)
class Report:
    """A loader's last word, from its termination message."""

    complete: bool
    reason: str = ""
    message: str = ""
    retryable: bool = False
    revision: str = ""
    digest: str = ""
    total_bytes: int = UNKNOWN
    fetched: bool = True
    """False: all was there already."""


@dataclass(frozen=True, slots=True)
class Loader:
    """The container of a pod that fetches weights."""

    running: bool = False
    report: Report | None = None
    before: Report | None = None
    """While it runs: its last word of the time before."""
    exit_code: int | None = None
    waiting: tuple[str, str] = ("", "")
    """Reason and message of the kubelet, while it does not run."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a loader is; -1 where nobody knows."""

    total_bytes: int
    done_bytes: int
    bytes_per_second: int
    remaining_seconds: int
    error: str = ""
    """Why nothing comes, while the loader tries again."""


class JobPhase(StrEnum):
    ACTIVE = "Active"
    COMPLETE = "Complete"
    FAILED = "Failed"


class JobPurpose(StrEnum):
    """FETCH may use the network, CHECK only looks, SWEEP removes."""

    FETCH = "Fetch"
    CHECK = "Check"
    SWEEP = "Sweep"


@dataclass(frozen=True, slots=True)
class LoaderJob:
    """A Job that runs a loader, with what was written on it when it was made."""

    name: str
    uid: str
    purpose: JobPurpose
    phase: JobPhase
    attempt: int = 1
    made_for: str = ""
    made_from: str = ""
    secret_version: str = ""
    claim_uid: str = ""
    made_at: int = 0
    """Seconds since the epoch."""
    seen: bool = False
    """The cluster's Job controller has taken it up."""
    suspended: bool = False
    """Nobody makes its pod until a queue, or a person, lets it go."""
    failed_at: int = 0
    failure: str = ""
    unwanted_since: int = 0
    """Seconds since the epoch, where that is written on it."""


@dataclass(frozen=True, slots=True)
class VolumeClaim:
    """A PersistentVolumeClaim that the operator made."""

    name: str
    uid: str
    phase: str
    class_name: str | None
    size_bytes: int
    ending: bool = False
    unwanted_since: int = 0


@dataclass(frozen=True, slots=True)
class MarkRefusal:
    """A mark that a claim of somebody else's should have, or should have no longer, and may not be given."""

    wanted: bool
    why: str
    at: int
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Record:
    """What weights resolved to, and whether they are complete in their place; kept in a ConfigMap."""

    uid: str
    complete: bool = False
    claim: str = ""
    claim_uid: str = ""
    revision: str = ""
    digest: str = ""
    total_bytes: int = UNKNOWN
    unwanted_since: int = 0
    refused: MarkRefusal | None = None
    """The claim does not say of them what it should."""


def read_report(text: str) -> Report | None:
    """None: the text is not a loader's."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("result") not in ("Complete", "Failed"):
        return None
    return Report(
        complete=said["result"] == "Complete",
        reason=str(said.get("reason", "")),
        message=str(said.get("message", "")),
        retryable=said.get("retryable") is True,
        revision=str(said.get("revision") or "")[:128],
        digest=str(said.get("digest") or ""),
        total_bytes=_count(said.get("totalBytes")),
        fetched=said.get("fetched") is not False,
    )


def read_progress(text: bytes) -> Progress | None:
    """From what a loader answers to `GET /progress`; None: that is no progress."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    return Progress(
        total_bytes=_count(said.get("totalBytes")),
        done_bytes=max(_count(said.get("doneBytes")), 0),
        bytes_per_second=_count(said.get("bytesPerSecond")),
        remaining_seconds=min(_count(said.get("remainingSeconds")), 2**31 - 1),
        error=_words(said.get("error")),
    )


def _words(value: object) -> str:
    return value[:ERROR_LENGTH] if isinstance(value, str) else ""


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return UNKNOWN
    return min(max(value, UNKNOWN), _LARGEST)
