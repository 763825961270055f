"""A model as the selection rules see it: what it can do, how fast it is, and whether it runs now."""

from dataclasses import dataclass
from enum import StrEnum

from roundhouse_api.enums import CostTier, Feature, Interface, SpeedTier, Stage, Streaming, WordTimestamps

ANY_LANGUAGE = "*"


class ModelStatus(StrEnum):
    """The three words of the HTTP API."""

    RUNNING = "running"
    AVAILABLE = "available"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Model:
    """One model that a client may ask for. `stage` is None while no engine is known for it.

    `languages` is None where the model has no language dimension or does not tell, `{"*"}` where it takes
    any.
    `real_time_factor` is that of the device the model runs on (0.05: an hour of audio in three minutes);
    `speed_factor` is relative to Whisper large-v3, higher is faster.
    """

    id: str
    stage: Stage | None
    engine: str
    engine_model: str
    status: ModelStatus = ModelStatus.AVAILABLE
    alternate_names: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    interfaces: frozenset[Interface] = frozenset({Interface.BATCH})
    languages: frozenset[str] | None = None
    streaming: Streaming = Streaming.NONE
    word_timestamps: WordTimestamps = WordTimestamps.NONE
    speed_tier: SpeedTier | None = None
    cost_tiers: frozenset[CostTier] = frozenset()
    classes: frozenset[str] = frozenset()
    features: frozenset[Feature] = frozenset()
    real_time_factor: float | None = None
    speed_factor: float | None = None
    priority: int = 0

    @property
    def running(self) -> bool:
        return self.status is ModelStatus.RUNNING

    @property
    def names(self) -> tuple[str, ...]:
        return (self.id, *self.alternate_names, *self.aliases)

    def speaks(self, language: str) -> bool:
        return self.languages is None or language in self.languages or ANY_LANGUAGE in self.languages

    @property
    def single_language(self) -> bool:
        """It is known to understand one language only, so speech of an unknown language is not for it."""
        return self.languages is not None and len(self.languages) == 1 and ANY_LANGUAGE not in self.languages

    @property
    def seconds_per_audio_second(self) -> float:
        """What speed is compared by: the real-time factor, else the inverse speed factor, else the worst."""
        if self.real_time_factor is not None:
            return self.real_time_factor
        return 1 / self.speed_factor if self.speed_factor else float("inf")
