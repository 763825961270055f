"""Whether one model fits a request, and how well: the conditions, and the wishes in order of weight."""

from roundhouse_api.enums import SpeedTier, Streaming, WordTimestamps
from roundhouse_api.selection.model import Model
from roundhouse_api.selection.needs import Mismatch, MismatchReason, Needs, Tier, in_small_words

_NEAREST_TIERS = {
    SpeedTier.FAST: (SpeedTier.FAST, SpeedTier.BALANCED, SpeedTier.ACCURATE),
    SpeedTier.BALANCED: (SpeedTier.BALANCED, SpeedTier.FAST, SpeedTier.ACCURATE),
    SpeedTier.ACCURATE: (SpeedTier.ACCURATE, SpeedTier.BALANCED, SpeedTier.FAST),
}

Manner = tuple[int, int, int, int, int]
Merit = tuple[float, float, str]


def mismatch(model: Model, needs: Needs) -> Mismatch | None:
    """The first condition that the model does not meet, running or not; None where it meets all."""
    if model.stage is not needs.stage:
        serves = f"serves stage '{model.stage.lower()}'" if model.stage else "has no engine yet"
        return Mismatch(MismatchReason.STAGE, f"{serves}; '{needs.stage.lower()}' is asked for")
    if needs.interface not in model.interfaces:
        return Mismatch(MismatchReason.INTERFACE, f"has no {needs.interface.lower()} interface")
    if needs.language is not None and not model.speaks(needs.language):
        known = ", ".join(sorted(model.languages or ()))
        return Mismatch(
            MismatchReason.LANGUAGE, f"does not support language '{needs.language}', only {known}"
        )
    return _lacking(model, needs)


def _lacking(model: Model, needs: Needs) -> Mismatch | None:
    if needs.streaming and model.streaming is Streaming.NONE:
        return Mismatch(MismatchReason.STREAMING, "does not stream")
    if needs.word_timestamps and model.word_timestamps is WordTimestamps.NONE:
        return Mismatch(MismatchReason.WORD_TIMESTAMPS, "has no word timestamps")
    if not needs.features <= model.features:
        missing = ", ".join(in_small_words(feature) for feature in sorted(needs.features - model.features))
        return Mismatch(MismatchReason.FEATURE, f"does not offer {missing}")
    return None


def manner(model: Model, needs: Needs) -> Manner:
    """How near its capabilities come to what is wished. In order of weight:

    input of unknown language goes to a model of one language only where nothing else fits; word timestamps
    and streaming, where asked for, rather native; the tier asked for; the classes asked for.
    """
    return (
        needs.language is None and model.single_language,
        needs.word_timestamps and model.word_timestamps is not WordTimestamps.NATIVE,
        needs.streaming and model.streaming is not Streaming.NATIVE,
        _tier_distance(model, needs.tier),
        len(needs.classes - model.classes),
    )


def by_priority(model: Model) -> Merit:
    """Among equals; the lower, the better."""
    return -model.priority, model.seconds_per_audio_second, model.id


def by_speed(model: Model) -> Merit:
    """The same where tier `fast` is asked for."""
    return model.seconds_per_audio_second, -model.priority, model.id


def _tier_distance(model: Model, tier: Tier | None) -> int:
    if tier is None:
        return 0
    if isinstance(tier, SpeedTier):
        nearest = _NEAREST_TIERS[tier]
        return nearest.index(model.speed_tier) if model.speed_tier is not None else len(nearest)
    return int(tier not in model.cost_tiers)
