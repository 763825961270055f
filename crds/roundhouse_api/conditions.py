"""Condition types, and with `Reason` the words in which a status says what is so and why."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from roundhouse_api.enums import ConditionStatus
from roundhouse_api.reasons import Reason

__all__ = ["ConditionStatus", "ConditionType", "Reason"]


class ConditionType(StrEnum):
    """An aspect of a resource's state. `kinds` are those that carry it."""

    kinds: tuple[str, ...]
    meaning: str

    def __new__(cls, value: str, kinds: str = "", meaning: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.kinds = tuple(kinds.split())
        member.meaning = meaning
        return member

    READY = (
        "Ready",
        "Engine ModelVariant Adapter SelectionPolicy",
        "Everything that follows holds: a request is answered now, or after a cold start.",
    )
    ACCEPTED = (
        "Accepted",
        "Engine ModelVariant Adapter SelectionPolicy",
        "The spec makes sense, and the resource won its public names.",
    )
    ENGINE_SELECTED = ("EngineSelected", "ModelVariant", "There is an engine for the variant.")
    WEIGHTS_READY = ("WeightsReady", "ModelVariant Adapter", "The weights are where a pod can read them.")
    SCHEDULED = ("Scheduled", "ModelVariant", "Pods have nodes, or would have them when woken.")
    AVAILABLE = ("Available", "Engine ModelVariant", "At least one endpoint answers now.")
    VERIFIED = ("Verified", "Engine ModelVariant", "The known-answer tests pass on what is running.")
    UP_TO_DATE = (
        "UpToDate",
        "Engine ModelVariant",
        "All pods are of the newest engine and variant.",
    )
    HARDWARE_AVAILABLE = ("HardwareAvailable", "Engine", "Some node meets the engine's needs.")
    COMPATIBLE = ("Compatible", "Adapter", "Some variant fits the adapter.")
    LOADED = ("Loaded", "Adapter", "Some pod has the adapter loaded.")
    DEGRADED = (
        "Degraded",
        "Engine ModelVariant Adapter SelectionPolicy",
        "Something is not as asked, though requests may be answered. Present only while True.",
    )
    OWNERSHIP_CONFLICT = (
        "OwnershipConflict",
        "ModelVariant",
        "Somebody else writes a field that the operator owns. Present only while True.",
    )
