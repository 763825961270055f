"""Why pods cannot be created, as the newest ReplicaSet of a Deployment says.

The Deployment's own account is of the first failure there was: Kubernetes writes no other message over it as
long as creation fails at all, be it of another template and for another cause.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from roundhouse_api.model import Manifest

_REVISION: Final = "deployment.kubernetes.io/revision"
FAILURE: Final = "ReplicaFailure"


def newest_refusal(replica_sets: Iterable[Manifest], deployment_uid: str) -> str | None:
    """None where it says that nothing is refused, or where there is no ReplicaSet yet."""
    of_it = [one for one in replica_sets if _owned_by(one, deployment_uid)]
    if not of_it:
        return None
    status = max(of_it, key=_revision).get("status") or {}
    told = (one for one in status.get("conditions") or () if one["type"] == FAILURE)
    return next((str(one.get("message", "")) for one in told if one["status"] == "True"), None)


def _owned_by(replica_set: Manifest, uid: str) -> bool:
    owners = replica_set["metadata"].get("ownerReferences") or ()
    return any(one["uid"] == uid and one.get("controller") for one in owners)


def _revision(replica_set: Manifest) -> tuple[int, str]:
    metadata = replica_set["metadata"]
    told = str((metadata.get("annotations") or {}).get(_REVISION, ""))
    return int(told) if told.isdecimal() else 0, metadata["creationTimestamp"]
