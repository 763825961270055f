"""What a variant offers to clients: by what it is chosen, what it costs, what a request may ask for."""

from __future__ import annotations

from typing import Annotated

from roundhouse_api.capabilities import SampleRate
from roundhouse_api.enums import CostTier, PricingType, SpeedTier
from roundhouse_api.model import Model, rule
from roundhouse_api.quantity import Quantity
from roundhouse_api.scalars import Between, Currency, Decimal, SetOf, Word

Tokens = Annotated[int, Between(1, 100_000_000)]
DurationSeconds = Annotated[int, Between(1, 864_000)]


class Selection(Model):
    """By what `auto` chooses the variant."""

    priority: Annotated[int, Between(-1000, 1000)] = 0
    """Higher wins; ties are broken by name."""
    speed_tier: SpeedTier | None = None
    """Fast, Balanced or Accurate: what `tier=fast` and the like ask for."""
    cost_tiers: Annotated[tuple[CostTier, ...], SetOf(4)] = ()
    """Premium, Budget, Fallback: the tiers of a SelectionPolicy in which the variant may stand."""
    classes: Annotated[tuple[Word, ...], SetOf(16)] = ()
    """Free words such as fast or quality that a task of a SelectionPolicy may ask for."""


class Pricing(Model):
    """What a request costs. Absent: free for a Workload; unknown, so ranked as paid, for an Upstream."""

    type: PricingType
    """Free, or Metered by the prices below."""
    currency: Currency | None = None
    """Currency of the prices, as ISO 4217 code such as USD."""
    input_per_million_tokens: Decimal | None = None
    """Price of a million tokens read, as a quoted decimal."""
    output_per_million_tokens: Decimal | None = None
    """Price of a million tokens written, as a quoted decimal."""
    per_audio_minute: Decimal | None = None
    """Price of a minute of audio, as a quoted decimal."""
    per_request: Decimal | None = None
    """Price of each request, as a quoted decimal."""

    @rule(
        "self.type == 'Metered' ? has(self.currency)"
        " : !(has(self.inputPerMillionTokens) || has(self.outputPerMillionTokens)"
        " || has(self.perAudioMinute) || has(self.perRequest))",
        "Metered needs `currency`; Free has no price",
    )
    def prices_match_type(self) -> bool:
        if self.type is PricingType.METERED:
            return self.currency is not None
        prices = (
            self.input_per_million_tokens,
            self.output_per_million_tokens,
            self.per_audio_minute,
            self.per_request,
        )
        return all(price is None for price in prices)


class VariantLimits(Model):
    """What a request may ask for. Absent: the engine's own limit."""

    max_duration_seconds: DurationSeconds | None = None
    """Longest audio in seconds, read or made; more is refused."""
    recommended_duration_seconds: DurationSeconds | None = None
    """Length in seconds that gives the best result; shown to clients."""
    sample_rate_hertz: SampleRate | None = None
    """Sample rate in hertz of the audio that the model makes."""
    max_input_tokens: Tokens | None = None
    """Most tokens that a request may send."""
    max_output_tokens: Tokens | None = None
    """Most tokens that a request may ask for."""
    max_batch_items: Annotated[int, Between(1, 100_000)] | None = None
    """Most inputs of one request, for embeddings and reranking."""
    max_input_bytes: Quantity | None = None
    """Largest upload."""
    requests_per_hour: Tokens | None = None
    """Requests in an hour, over all clients; more are answered with 429."""
