"""The seven models of S0-4 with their aliases, and two of S1-7's, as the selection rules see them."""

from roundhouse_api.enums import Interface, SpeedTier, Stage, Streaming, WordTimestamps
from roundhouse_api.selection import Model, ModelStatus

LANGUAGES = frozenset({"en", "hr", "de", "ja"})


def whisper(name: str, engine_model: str, tier: SpeedTier, speed: float, *aliases: str) -> Model:
    return Model(
        id=name,
        stage=Stage.TRANSCRIBE,
        engine="faster-whisper",
        engine_model=engine_model,
        status=ModelStatus.RUNNING,
        aliases=aliases,
        languages=LANGUAGES,
        word_timestamps=WordTimestamps.ALIGNMENT,
        speed_tier=tier,
        speed_factor=speed,
    )


REGISTRY = (
    whisper("whisper-large-v3", "large-v3", SpeedTier.ACCURATE, 1, "accurate", "large"),
    whisper("whisper-large-v2", "large-v2", SpeedTier.ACCURATE, 1),
    whisper("whisper-medium", "medium", SpeedTier.BALANCED, 2, "medium"),
    whisper("whisper-small", "small", SpeedTier.FAST, 4, "small"),
    whisper("whisper-base", "base", SpeedTier.FAST, 8, "base"),
    whisper("whisper-tiny", "tiny", SpeedTier.FAST, 16, "tiny"),
    Model(
        id="distil-whisper",
        stage=Stage.TRANSCRIBE,
        engine="faster-whisper",
        engine_model="distil-large-v3",
        status=ModelStatus.RUNNING,
        aliases=("fast",),
        languages=frozenset({"en"}),
        word_timestamps=WordTimestamps.ALIGNMENT,
        speed_tier=SpeedTier.FAST,
        speed_factor=6,
    ),
)

PARAKEET = Model(
    id="parakeet-0.6b",
    stage=Stage.TRANSCRIBE,
    engine="nemo",
    engine_model="nvidia/parakeet-rnnt-0.6b",
    status=ModelStatus.RUNNING,
    languages=frozenset({"en"}),
    word_timestamps=WordTimestamps.NATIVE,
    real_time_factor=0.0005,
)
STREAMING = Model(
    id="whisper-streaming-base",
    stage=Stage.TRANSCRIBE,
    engine="faster-whisper",
    engine_model="base",
    status=ModelStatus.RUNNING,
    interfaces=frozenset({Interface.REALTIME}),
    languages=LANGUAGES,
    streaming=Streaming.CHUNKED,
    real_time_factor=0.1,
)
