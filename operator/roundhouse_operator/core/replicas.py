"""Who writes `spec.replicas` of a variant, read from the managed fields before those are dropped.

Under `mode: Demand` our own scaler does, through /scale. A controller that writes the field after that (a
GitOps tool with `replicas` in its manifests) is told as a conflict, and ours stops: two of them would pull
each other up and down for ever. A person's `kubectl scale` is none: scaling goes on from there.

The API server records writes of a custom resource's /scale only where somebody owned the field before, and
never a zero (1.34). So a controller is seen by its coming to own the field, whoever had it until then; of
HorizontalPodAutoscalers, which write /scale alone, `autoscalers` knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.model import Manifest

SCALER: Final = "scaler"
_LONGEST: Final = 128
"""Characters of a manager's name."""
_PEOPLE: Final = "kubectl"
"""`kubectl scale`, `edit`, `patch` and `apply` all sign with names that begin so."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who wrote `replicas` last: empty where nobody did since it was made with the default."""

    manager: str = ""
    rival: str = ""
    """The controller that took the field since the variant was first seen, as long as that stands."""


NOBODY: Final = Writer()


def scaler_of(field_manager: str) -> str:
    """The manager in whose name our scaler writes, no longer than the API server takes."""
    name = f"{field_manager}/{SCALER}"
    if len(name) <= _LONGEST:
        return name
    end = f"-{sha256(field_manager.encode()).hexdigest()[:12]}/{SCALER}"
    return field_manager[: _LONGEST - len(end)] + end


def read_writer(manifest: Manifest, before: Writer | None, ours: str) -> Writer:
    """`before` is what the object said when it was last seen, if it was; `ours` our scaler's name."""
    manager = _last_manager(manifest["metadata"].get("managedFields") or (), ours)
    if manager in ("", ours) or manager.startswith(_PEOPLE):
        return Writer(manager)
    status: Mapping[str, Any] = manifest.get("status") or {}
    came = before is not None and before.manager != manager
    # A status that is behind cannot have taken anything back.
    behind = status.get("observedGeneration") != manifest["metadata"].get("generation")
    stays = before is not None and before.rival != "" and behind
    return Writer(manager, manager if came or stays or _tells_conflict(status) else "")


def _last_manager(entries: Iterable[Manifest], ours: str) -> str:
    """Of several who agree on the value, ours; else who wrote last."""
    owners = [one for one in entries if "f:replicas" in ((one.get("fieldsV1") or {}).get("f:spec") or {})]
    if any(one["manager"] == ours for one in owners):
        return ours
    return max(owners, key=lambda one: one.get("time", ""))["manager"] if owners else ""


def _tells_conflict(status: Mapping[str, Any]) -> bool:
    return any(
        one["type"] == ConditionType.DEGRADED and one["reason"] == Reason.SCALER_CONFLICT
        for one in status.get("conditions") or ()
    )
