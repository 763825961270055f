"""What a request needs of a model, and the ways in which a model can fall short of it."""

from dataclasses import dataclass
from enum import StrEnum

from roundhouse_api.enums import CostTier, Interface, SpeedTier, Stage

Tier = SpeedTier | CostTier


def primary_language(code: str) -> str:
    """`en` of `en`, `EN`, `en-US` or `en_GB`: models name languages, requests often a region too."""
    return code.strip().lower().replace("_", "-").partition("-")[0]


@dataclass(frozen=True, slots=True)
class Needs:
    """The requirements of one request. `tier` is a wish that ranks; all else is a condition."""

    stage: Stage
    interface: Interface = Interface.BATCH
    language: str | None = None
    streaming: bool = False
    word_timestamps: bool = False
    tier: Tier | None = None

    def in_words(self) -> str:
        """`stage 'transcribe' with language 'hr' and word timestamps`"""
        wants = [f"language '{self.language}'"] if self.language else []
        wants += ["streaming"] if self.streaming else []
        wants += ["word timestamps"] if self.word_timestamps else []
        stage = f"stage '{self.stage.lower()}'"
        return f"{stage} with {' and '.join(wants)}" if wants else stage


class MismatchReason(StrEnum):
    STAGE = "Stage"
    INTERFACE = "Interface"
    LANGUAGE = "Language"
    STREAMING = "Streaming"
    WORD_TIMESTAMPS = "WordTimestamps"
    NOT_RUNNING = "NotRunning"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a model does not fit. `message` completes the sentence "model x …"."""

    reason: MismatchReason
    message: str
