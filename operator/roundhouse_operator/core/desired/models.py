"""The list of models of a shared pod: a ConfigMap of its own, which the pod mounts as a file.

So a variant that comes or goes changes no pod template. The ConfigMap is also where the packing is kept: in
the list what the engine holds now, in an annotation what it is to hold once all moves are done.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.kinds import CONFIG_MAP
from roundhouse_operator.core.sharing import shared_claim
from roundhouse_operator.core.weights.delivery import WEIGHTS_PATH

MODELS_FILE: Final = PurePosixPath("/etc/roundhouse/models.json")
VOLUME: Final = "models"
WEIGHTS: Final = "weights"


@dataclass(frozen=True, slots=True)
class Listed:
    """What stands in the list of one pod, and what is kept beside it."""

    generation: int
    entries: Iterable[Manifest]
    variants: Iterable[str]
    """Those that are to be in the pod."""
    mib: int | None
    """The memory that they were packed by."""
    placement: Manifest
    """What was decided about the nodes; it stands for as long as the pod is there."""


def build_models(intent: Intent, listed: Listed) -> Manifest:
    head = intent.metadata(CONFIG_MAP)
    head["metadata"]["annotations"] = {
        names.ANNOTATION_VARIANTS: " ".join(sorted(listed.variants)),
        **({names.ANNOTATION_ROOM: str(listed.mib)} if listed.mib is not None else {}),
        names.ANNOTATION_PLACEMENT: _json(listed.placement),
    }
    models = sorted(listed.entries, key=lambda one: str(one["name"]))
    return {**head, "data": {MODELS_FILE.name: _json({"generation": listed.generation, "models": models})}}


def _json(value: Manifest) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def shared_volumes(intent: Intent) -> list[Manifest]:
    """Of a shared pod: its list, and the claim with the weights of all variants, if its engine has one."""
    if not intent.models_file:
        return []
    volumes: list[Manifest] = [{"name": VOLUME, "configMap": {"name": intent.name}}]
    if claim := shared_claim(intent.engine):
        volumes.append({"name": WEIGHTS, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    return volumes


def shared_mounts(intent: Intent) -> list[Manifest]:
    if not intent.models_file:
        return []
    # The directory and not the file: what is mounted by subPath is never brought up to date.
    mounts: list[Manifest] = [{"name": VOLUME, "mountPath": str(MODELS_FILE.parent), "readOnly": True}]
    if shared_claim(intent.engine):
        mounts.append({"name": WEIGHTS, "mountPath": WEIGHTS_PATH, "readOnly": True})
    return mounts
