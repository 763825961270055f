"""Fields that admission makes other than we ask for: a webhook that rewrites images, say.

We own such a field, and it differs whatever we write. An apply that changed nothing shows it: what differed
is left to admission and told, and is no change that anybody waits for. Another wish, or object, is tried.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_operator.core.fields import Path, differences
from roundhouse_operator.core.observed import Child, Vain

ADMISSION: Final = "admission"
"""As whose the fields are told."""
_SCALED: Final = frozenset({"replicas", "strategy"})
"""Of a Deployment: what changes while its pods stay the same, so that each change is tried."""


def vain_apply(wanted: Manifest, child: Child) -> Vain:
    """Of an apply that changed nothing about the child."""
    found = differences(wanted, child.live, child.ownership.ours)
    lasting = (path for path in found if not (path[0] == "spec" and path[1] in _SCALED))
    return Vain(_gist(wanted, child), frozenset(lasting))


def left_to_admission(wanted: Manifest, child: Child) -> frozenset[Path]:
    """`wanted` has at least the pod template of a Deployment, and else the whole spec."""
    vain = child.vain
    return vain.paths if vain and vain.gist == _gist(wanted, child) else frozenset()


def changes_of(wanted: Manifest, child: Child) -> list[Path]:
    """Where the child differs from what is wanted, and a write may change it."""
    found = differences(wanted, child.live, child.ownership.ours)
    left = left_to_admission(wanted, child) if found else frozenset()
    return [path for path in found if path not in left]


def _gist(wanted: Manifest, child: Child) -> str:
    said = json.dumps([_lasting(wanted), _lasting(child.live)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _lasting(manifest: Manifest) -> object:
    spec = manifest.get("spec") or {}
    return spec.get("template", [spec, manifest.get("data")])
