"""What an engine or a model can do, how fast it is, and how it scales.

An Engine states these for all of its variants and a ModelVariant overrides them, so no field here
has a default: absent means inherited, and a list that is given replaces the engine's list.
"""

from __future__ import annotations

from typing import Annotated

from roundhouse_api.enums import Encoding, Feature, Pooling, ScalingMode, Streaming, WordTimestamps
from roundhouse_api.model import Model, rule
from roundhouse_api.scalars import Atomic, Between, Decimal, InFlight, LanguageCode, Replicas, SetOf

Dimensions = Annotated[int, Between(1, 65536)]
SampleRate = Annotated[int, Between(8000, 192_000)]


class AudioCapabilities(Model):
    """The raw audio that a stream may carry."""

    encodings: Annotated[tuple[Encoding, ...], SetOf(8)] | None = None
    """Encodings of raw audio that a realtime session accepts: pcm_s16le, pcm_f32le, mulaw, alaw."""
    sample_rate_hertz: SampleRate | None = None
    """Sample rate in hertz that the model wants; other rates are resampled."""
    chunk_milliseconds: Annotated[int, Between(10, 10_000)] | None = None
    """Length in milliseconds of the pieces in which a stream is best sent."""


class EmbeddingCapabilities(Model):
    """The vectors that an embedding model makes."""

    dimensions: Dimensions | None = None
    """Numbers in a vector."""
    output_dimensions: Annotated[tuple[Dimensions, ...], Atomic(16)] | None = None
    """Shorter lengths to which a vector may be cut on request (Matryoshka embeddings)."""
    pooling: Pooling | None = None
    """How token vectors become one: Mean, LastToken or CLS. The images of Roundhouse compute so; without
    it as the weights say, or else Mean. An engine of others is told by its own arguments."""


class Capabilities(Model):
    """What requests can be served."""

    languages: Annotated[tuple[LanguageCode, ...], SetOf(128)] | None = None
    """Language codes (ISO 639-1 where there is one), quoted in YAML because `no` is a boolean there;
    or only "*" for any language. Absent: language does not matter, as for embeddings."""
    language_count: Annotated[int, Between(1, 1000)] | None = None
    """How many languages "*" stands for, to be shown to clients."""
    streaming: Streaming | None = None
    """Whether words come while audio is still being sent. None: no. Chunked: a batch model is fed
    pieces. Native: the model itself works on a stream."""
    word_timestamps: WordTimestamps | None = None
    """Where the times of words come from. None: there are none. Alignment: a second model aligns
    them. Native: the model gives them; `auto` prefers this one."""
    features: Annotated[tuple[Feature, ...], SetOf(16)] | None = None
    """What else can be asked for: Diarization, Translation, Vision, StructuredOutputs, Adapters,
    Tools, Prompt, Punctuation, LanguageDetection."""
    audio: AudioCapabilities | None = None
    """The raw audio that a realtime session accepts."""
    embedding: EmbeddingCapabilities | None = None
    """The vectors of an embedding model."""

    @rule(
        "!has(self.languages) || !('*' in self.languages) || size(self.languages) == 1",
        "`languages` must be only '*' or only codes",
    )
    def any_language_stands_alone(self) -> bool:
        return self.languages is None or "*" not in self.languages or len(self.languages) == 1


class RealTimeFactor(Model):
    """Seconds of work for a second of audio; below 1 is faster than real time."""

    gpu: Decimal | None = None
    """On a GPU, as a quoted decimal such as "0.05"."""
    cpu: Decimal | None = None
    """On CPUs, as a quoted decimal; absent where the model needs a GPU."""


class Performance(Model):
    """Measured figures, by which `auto` ranks and that clients are shown."""

    real_time_factor: RealTimeFactor | None = None
    """Seconds of work for a second of audio: lower is faster."""
    speed_factor: Decimal | None = None
    """Speed against the slowest model of the family, as a quoted decimal: higher is faster. Ranks
    only where there is no `realTimeFactor`."""
    tokens_per_second: Decimal | None = None
    """Tokens that a text model generates in a second, as a quoted decimal. A music model: tokens
    of its codec for a second of audio."""
    latency_milliseconds: Annotated[int, Between(0, 600_000)] | None = None
    """Typical delay of the first word of a stream, in milliseconds."""


class Concurrency(Model):
    """How many requests one replica takes at once."""

    max_in_flight_per_replica: InFlight | None = None
    """Requests that one replica works on at once; more wait, or go to another replica."""


class Scaling(Model):
    """Who sets `spec.replicas`, and by which figures. Exactly one scaler writes it, through /scale."""

    mode: ScalingMode | None = None
    """Demand: Roundhouse scales from the requests in flight and held, also to and from zero. Manual,
    the same as absent: kubectl, an HPA or KEDA does."""
    min_replicas: Replicas | None = None
    """Fewest replicas under Demand. 0: the variant may sleep, and a request by its name wakes it."""
    max_replicas: Annotated[int, Between(1, 1000)] | None = None
    """Most replicas under Demand."""
    target_in_flight: InFlight | None = None
    """Requests in flight for each replica that Demand aims at."""
    idle_seconds: Annotated[int, Between(10, 604_800)] | None = None
    """Seconds without a request after which Demand takes the last replica away."""
    max_hold_seconds: Annotated[int, Between(0, 3600)] | None = None
    """Longest time in seconds that the gateway holds a request for a cold start. 0: it answers 503
    at once."""

    @rule(
        "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
        "`minReplicas` must be less than or equal to `maxReplicas`",
    )
    def fewest_is_not_above_most(self) -> bool:
        return (
            self.min_replicas is None or self.max_replicas is None or self.min_replicas <= self.max_replicas
        )
