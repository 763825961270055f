"""What a decision has to know of objects that nobody watches, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class AskedKind(StrEnum):
    """Of a Secret only the metadata is read."""

    SECRET = "Secret"  # noqa: S105  # the kind
    CONFIG_MAP = "ConfigMap"
    STORAGE_CLASS = "StorageClass"
    CLAIM = "PersistentVolumeClaim"


@dataclass(frozen=True, slots=True)
class Ask:
    """Is there such an object? In the variant's namespace, if its kind has one."""

    kind: AskedKind
    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`version` changes with the object."""

    found: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    access_modes: frozenset[str] = frozenset()
    """Of a claim."""
    refused: str = ""
    """Why nobody may say, in the words of the API server; it is taken to be there."""
    annotations: frozenset[str] = frozenset()
    """Names of those that stand on it."""

    @property
    def many_nodes(self) -> bool:
        """Whether any number of nodes can mount the claim at a time."""
        return bool(self.access_modes & {"ReadWriteMany", "ReadOnlyMany"})


Answers = Mapping[Ask, Answer]
