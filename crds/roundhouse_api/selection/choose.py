"""The choice that `auto` makes: filter by what the request needs, rank what is left, break ties by name."""

from collections.abc import Iterable
from dataclasses import dataclass

from roundhouse_api.enums import SpeedTier, Streaming, WordTimestamps
from roundhouse_api.selection.catalogue import Catalogue
from roundhouse_api.selection.model import Model
from roundhouse_api.selection.needs import Mismatch, MismatchReason, Needs, Tier

# Requests remembered with their ranking for one catalogue: languages come from clients, so it is bounded.
_REMEMBERED = 256

_NEAREST_TIERS = {
    SpeedTier.FAST: (SpeedTier.FAST, SpeedTier.BALANCED, SpeedTier.ACCURATE),
    SpeedTier.BALANCED: (SpeedTier.BALANCED, SpeedTier.FAST, SpeedTier.ACCURATE),
    SpeedTier.ACCURATE: (SpeedTier.ACCURATE, SpeedTier.BALANCED, SpeedTier.FAST),
}

Rank = tuple[int, int, int, int, float, float, str]


class NothingFitsError(LookupError):
    """Nothing that runs fits the request. `hopeless` says that nothing would, if all of it ran."""

    def __init__(self, needs: Needs, *, hopeless: bool) -> None:
        super().__init__(f"No engine available for {needs.in_words()}")
        self.needs = needs
        self.hopeless = hopeless


@dataclass(frozen=True, slots=True)
class Verdict:
    """A candidate: chosen, fit but ranked behind, or with the first reason why it does not fit."""

    model: Model
    chosen: bool
    mismatch: Mismatch | None


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
    if needs.streaming and model.streaming is Streaming.NONE:
        return Mismatch(MismatchReason.STREAMING, "does not stream")
    if needs.word_timestamps and model.word_timestamps is WordTimestamps.NONE:
        return Mismatch(MismatchReason.WORD_TIMESTAMPS, "has no word timestamps")
    return None


def rank(model: Model, needs: Needs) -> Rank:
    """The lower, the better. In order of weight:

    speech of unknown language goes to a model of one language only where nothing else fits; word timestamps
    and streaming, where asked for, rather native; the tier asked for; then priority and speed, where tier
    `fast` asks for speed before priority; then the name.
    """
    speed = model.seconds_per_audio_second
    by_merit = (speed, -model.priority) if needs.tier is SpeedTier.FAST else (-model.priority, speed)
    return (
        needs.language is None and model.single_language,
        needs.word_timestamps and model.word_timestamps is not WordTimestamps.NATIVE,
        needs.streaming and model.streaming is not Streaming.NATIVE,
        _tier_distance(model, needs.tier),
        *by_merit,
        model.id,
    )


def select(catalogue: Catalogue, needs: Needs) -> Model:
    """The running model that fits best; `NothingFitsError` where none fits."""
    return candidates(catalogue, needs)[0]


def candidates(catalogue: Catalogue, needs: Needs) -> tuple[Model, ...]:
    """The running models that fit, the best first, and at least one; `NothingFitsError` where none fits."""
    remembered = catalogue.ranked.get(needs)
    if remembered is not None:
        return remembered
    ranked = fitting(catalogue.running(needs.stage, needs.interface), needs)
    if not ranked:
        raise NothingFitsError(needs, hopeless=_is_hopeless(catalogue, needs))
    if len(catalogue.ranked) < _REMEMBERED:
        catalogue.ranked[needs] = ranked
    return ranked


def fitting(models: Iterable[Model], needs: Needs) -> tuple[Model, ...]:
    """Those of the models that fit, running or not, the best first."""
    return tuple(
        sorted(
            (model for model in models if mismatch(model, needs) is None),
            key=lambda model: rank(model, needs),
        )
    )


def _is_hopeless(catalogue: Catalogue, needs: Needs) -> bool:
    """An empty catalogue may just be filling, and of a model without an engine nobody knows what it does."""
    models = catalogue.get_available_models()
    return bool(models) and not any(model.stage is None or mismatch(model, needs) is None for model in models)


def explain(catalogue: Catalogue, needs: Needs) -> tuple[Verdict, ...]:
    """A verdict for every model: the chosen, those that fit by their rank, then the rest by id."""
    fit, rest = [], []
    for model in catalogue.get_available_models():
        found = mismatch(model, needs)
        if found is None and not model.running:
            found = Mismatch(MismatchReason.NOT_RUNNING, f"is {model.status}, not running")
        if found is None:
            fit.append(model)
        else:
            rest.append(Verdict(model, chosen=False, mismatch=found))
    fit.sort(key=lambda model: rank(model, needs))
    ranked = [Verdict(model, chosen=place == 0, mismatch=None) for place, model in enumerate(fit)]
    return (*ranked, *rest)


def _tier_distance(model: Model, tier: Tier | None) -> int:
    if tier is None:
        return 0
    if isinstance(tier, SpeedTier):
        nearest = _NEAREST_TIERS[tier]
        return nearest.index(model.speed_tier) if model.speed_tier is not None else len(nearest)
    return int(tier not in model.cost_tiers)
