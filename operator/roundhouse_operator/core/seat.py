"""How a variant stands in the pods of an engine that it shares: copies counted, and what is in their way."""

from __future__ import annotations

from dataclasses import dataclass

from roundhouse_operator.core.diagnose import Trouble


@dataclass(frozen=True, slots=True)
class Seat:
    """What the pass over the engine found, for the variant's own pass to tell."""

    engine_uid: str
    wanted: int
    placed: int = 0
    """That have a pod to be in."""
    ready: int = 0
    """That are loaded, and get requests."""
    updated: int = 0
    """Of those, in pods that are as the engine asks for now."""
    scheduled: bool = False
    """Whether a pod of one has a node."""
    moving: bool = False
    """Whether it still has a place that it is to leave."""
    trouble: Trouble | None = None
    """What keeps a copy that is wanted from being loaded."""
    behind: Trouble | None = None
    """Why a copy is in a pod that a change of the engine has not reached."""
    awaited: tuple[str, ...] = ()
    """Pods that still end, and make room for a new one that it is to be in."""
    inactive: bool = False
    """Whether the engine has one active variant, and this is another."""
