"""What a request needs of a model, and the ways in which a model can fall short of it."""

from dataclasses import dataclass
from enum import StrEnum

from roundhouse_api.enums import CostTier, Feature, Interface, SpeedTier, Stage

Tier = SpeedTier | CostTier


def primary_language(code: str) -> str:
    """`en` of `en`, `EN`, `en-US` or `en_GB`: models name languages, requests often a region too."""
    return code.strip().lower().replace("_", "-").partition("-")[0]


@dataclass(frozen=True, slots=True)
class Needs:
    """The requirements of one request. `tier` and `classes` are wishes that rank; all else is a condition."""

    stage: Stage
    interface: Interface = Interface.BATCH
    language: str | None = None
    streaming: bool = False
    word_timestamps: bool = False
    tier: Tier | None = None
    features: frozenset[Feature] = frozenset()
    classes: frozenset[str] = frozenset()

    def in_words(self) -> str:
        """`stage 'transcribe' with language 'hr' and word timestamps`"""
        wants = [f"language '{self.language}'"] if self.language else []
        wants += ["streaming"] if self.streaming else []
        wants += ["word timestamps"] if self.word_timestamps else []
        wants += [in_small_words(feature) for feature in sorted(self.features)]
        stage = f"stage '{self.stage.lower()}'"
        return f"{stage} with {' and '.join(wants)}" if wants else stage

    @property
    def unknown_speech(self) -> bool:
        """Nobody has said which language is spoken."""
        return self.language is None and self.stage is Stage.TRANSCRIBE


def in_small_words(feature: Feature) -> str:
    """`structured outputs` of `StructuredOutputs`."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in feature).strip()


class MismatchReason(StrEnum):
    STAGE = "Stage"
    INTERFACE = "Interface"
    LANGUAGE = "Language"
    STREAMING = "Streaming"
    WORD_TIMESTAMPS = "WordTimestamps"
    FEATURE = "Feature"
    NOT_RUNNING = "NotRunning"
    ONE_LANGUAGE = "OneLanguage"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a model does not fit. `message` completes the sentence "model x …"."""

    reason: MismatchReason
    message: str
