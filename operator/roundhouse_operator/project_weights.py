"""From the objects of a cache of weights, and from pods with a loader, to what the core looks at."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Final

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_api.quantity import Quantity
from roundhouse_operator.core.kinds import CACHE_KINDS, CONFIG_MAP, JOB, POD, STORE, Key, Kind
from roundhouse_operator.core.weights.loader import LOADER_CONTAINER
from roundhouse_operator.core.weights.state import (
    UNKNOWN,
    WHY_LENGTH,
    JobPhase,
    JobPurpose,
    Loader,
    LoaderJob,
    MarkRefusal,
    Record,
    VolumeClaim,
    read_report,
)

LABEL_JOB: Final = "batch.kubernetes.io/job-name"
_OF_JOB: Final = re.compile(r"^(weights-.+-[0-9a-f]{12})(?:-check|-sweep)?-\d+$")

_DIGITS: Final = 18
_MOST_ATTEMPTS: Final = 10**6


def store_of(kind: Kind, manifest: Manifest) -> Key | None:
    """The weights that an object belongs to; None where it is no part of a cache."""
    metadata = manifest["metadata"]
    labels = metadata.get("labels") or {}
    if names.LABEL_WEIGHTS not in labels or kind not in (*CACHE_KINDS, POD):
        return None
    name = labels.get(LABEL_JOB, "") if kind == POD else metadata["name"]
    if kind in (POD, JOB):
        found = _OF_JOB.match(name)
        name = found[1] if found else ""
    return Key(STORE, metadata["namespace"], name) if name else None


def key_of(manifest: Manifest) -> str:
    """Of the weights, as the label says."""
    return str(manifest["metadata"]["labels"][names.LABEL_WEIGHTS])


def project_stored(kind: Kind, manifest: Manifest) -> LoaderJob | VolumeClaim | Record:
    """What belongs to a store, but for its pods."""
    if kind == JOB:
        return _job(manifest)
    return _record(manifest) if kind == CONFIG_MAP else _claim(manifest)


def project_loader(manifest: Manifest) -> Loader | None:
    """Of a pod's loader, whether it stands before an engine or alone."""
    status = manifest.get("status") or {}
    statuses = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    found = next((one for one in statuses if one["name"] == LOADER_CONTAINER), None)
    if found is None:
        return None
    state = found.get("state") or {}
    ended = state.get("terminated") or (found.get("lastState") or {}).get("terminated") or {}
    waiting = state.get("waiting") or {}
    running = "running" in state
    return Loader(
        running=running,
        # A loader that was started again has yet to say how it ends this time.
        report=None if running else read_report(ended.get("message", "")),
        before=read_report(ended.get("message", "")) if running else None,
        exit_code=None if running else ended.get("exitCode"),
        waiting=(waiting.get("reason", ""), waiting.get("message", "")),
    )


def job_of(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("labels") or {}).get(LABEL_JOB, ""))


def whole(text: str, otherwise: int) -> int:
    """Of an annotation or the like, which anybody may have written: at most 18 digits are a number."""
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else otherwise


def _job(manifest: Manifest) -> LoaderJob:
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    mark = _mark(metadata)
    ended = {one["type"]: one for one in status.get("conditions") or () if one["status"] == "True"}
    failed = ended.get("Failed") or {}
    phase = JobPhase.COMPLETE if "Complete" in ended else JobPhase.FAILED if failed else JobPhase.ACTIVE
    purpose, attempt = mark.get("purpose"), mark.get("attempt")
    return LoaderJob(
        name=metadata["name"],
        uid=metadata["uid"],
        purpose=JobPurpose(purpose) if purpose in list(JobPurpose) else JobPurpose.FETCH,
        phase=phase,
        attempt=attempt if isinstance(attempt, int) and 0 < attempt < _MOST_ATTEMPTS else 1,
        made_for=str(mark.get("for", "")),
        made_from=str(mark.get("from", "")),
        secret_version=str(mark.get("secret", "")),
        claim_uid=str(mark.get("claim", "")),
        made_at=_seconds(metadata["creationTimestamp"]),
        seen="startTime" in status,
        suspended=(manifest.get("spec") or {}).get("suspend") is True,
        failed_at=_seconds(failed.get("lastTransitionTime")),
        failure=failed.get("message", ""),
        unwanted_since=_unwanted(metadata),
    )


def _mark(metadata: Manifest) -> Manifest:
    mark = _parsed((metadata.get("annotations") or {}).get(names.ANNOTATION_LOADER, ""))
    return mark if isinstance(mark, dict) else {}


def _parsed(text: str) -> object:
    """None: that is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _claim(manifest: Manifest) -> VolumeClaim:
    metadata, spec = manifest["metadata"], manifest["spec"]
    requests = (spec.get("resources") or {}).get("requests") or {}
    return VolumeClaim(
        name=metadata["name"],
        uid=metadata["uid"],
        phase=(manifest.get("status") or {}).get("phase", ""),
        class_name=spec.get("storageClassName"),
        size_bytes=Quantity.parse(requests.get("storage", "0")).bytes,
        ending="deletionTimestamp" in metadata,
        unwanted_since=_unwanted(metadata),
    )


def _record(manifest: Manifest) -> Record:
    data = manifest.get("data") or {}
    total = data.get("totalBytes", "")
    return Record(
        uid=manifest["metadata"]["uid"],
        complete=data.get("complete") == "true",
        claim=data.get("claim", ""),
        claim_uid=data.get("claimUID", ""),
        revision=data.get("revision", ""),
        digest=data.get("digest", ""),
        total_bytes=whole(total, UNKNOWN),
        unwanted_since=_unwanted(manifest["metadata"]),
        refused=_refused(data),
    )


def _refused(data: Manifest) -> MarkRefusal | None:
    why = data.get("markRefused", "")
    at = whole(data.get("markRefusedAt", ""), 0)
    return MarkRefusal(data.get("markWanted") == "true", why[:WHY_LENGTH], at) if why else None


def _unwanted(metadata: Manifest) -> int:
    """What is no time was not written by us, and says nothing."""
    try:
        return max(_seconds((metadata.get("annotations") or {}).get(names.ANNOTATION_UNWANTED)), 0)
    except (ValueError, OverflowError):
        return 0


def _seconds(time: str | None) -> int:
    return int(datetime.fromisoformat(time).timestamp()) if time else 0
