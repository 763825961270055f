"""Security of the pod: as strict as the image's manners allow.

Images built on the engine SDK run without root, without capabilities and on a read-only file system; of
others only what no server needs is taken away. `podTemplate` may loosen or tighten it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Dialect

USER: Final = 65532


@dataclass(frozen=True, slots=True)
class Scratch:
    """The one place where a container with a read-only file system may write."""

    volumes: list[Manifest]
    mounts: list[Manifest]


def build_pod_security(dialect: Dialect) -> Manifest:
    seccomp = {"seccompProfile": {"type": "RuntimeDefault"}}
    if dialect is not Dialect.ROUNDHOUSE:
        return seccomp
    return {**seccomp, "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}


def build_container_security(dialect: Dialect) -> Manifest:
    common = {"allowPrivilegeEscalation": False}
    if dialect is not Dialect.ROUNDHOUSE:
        return common
    return {**common, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def scratch(dialect: Dialect) -> Scratch:
    if dialect is not Dialect.ROUNDHOUSE:
        return Scratch([], [])
    return Scratch([{"name": "tmp", "emptyDir": {}}], [{"name": "tmp", "mountPath": "/tmp"}])  # noqa: S108  # of the container
