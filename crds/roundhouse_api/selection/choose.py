"""The choice that `auto` makes: filter by what the request needs, rank what is left, break ties by name.

A model that understands one language only is never chosen for speech of which nobody has said the language,
unless the catalogue has no other: what was spoken in another language would come out as words that nobody
said. Where a model of many languages is there and does not run, the request is refused instead.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from roundhouse_api.selection.catalogue import Catalogue
from roundhouse_api.selection.fit import mismatch
from roundhouse_api.selection.model import Model
from roundhouse_api.selection.needs import Mismatch, MismatchReason, Needs

Allows = Callable[[str], bool]


class NothingFitsError(LookupError):
    """Nothing that runs fits the request. `hopeless` says that nothing would, if all of it ran."""

    def __init__(self, needs: Needs, *, hopeless: bool, of_one_language: Model | None = None) -> None:
        text = f"No engine available for {needs.in_words()}"
        if of_one_language is not None:
            (language,) = of_one_language.languages or ("",)
            text += (
                f" of unknown language: '{of_one_language.id}' runs and understands '{language}' alone; "
                "say which language is spoken"
            )
        super().__init__(text)
        self.needs = needs
        self.hopeless = hopeless
        self.of_one_language = of_one_language


@dataclass(frozen=True, slots=True)
class Verdict:
    """A candidate: chosen, fit but ranked behind, or with the first reason why it does not fit."""

    model: Model
    chosen: bool
    mismatch: Mismatch | None


def ranked(catalogue: Catalogue, needs: Needs, allows: Allows | None = None) -> Iterator[Model]:
    """All running models that fit and that whoever asks may use, the best first."""
    return without_guesses(catalogue.running.fitting(needs), catalogue, needs, allows)


def without_guesses(
    models: Iterable[Model], catalogue: Catalogue, needs: Needs, allows: Allows | None = None
) -> Iterator[Model]:
    """Of models in their order those that may be chosen, and may be used by whoever asks."""
    guesses: bool | None = None
    for model in models:
        if allows is not None and not allows(model.id):
            continue
        if needs.unknown_speech and model.single_language:
            if guesses is None:
                guesses = _has_many_languages(catalogue, needs, allows)
            if guesses:
                return  # they come last in every order
        yield model


def nothing_fits(catalogue: Catalogue, needs: Needs, allows: Allows | None = None) -> NothingFitsError:
    """The error for a request that finds nothing, told to somebody who may use these and hears of no other.

    An empty catalogue may just be filling.
    """
    passed_over = next(_allowed(catalogue.running.fitting(needs), allows), None)
    possible = next(_allowed(catalogue.all.possible(needs), allows), None)
    hopeless = bool(catalogue.all) and possible is None
    return NothingFitsError(needs, hopeless=hopeless, of_one_language=passed_over)


def explain(catalogue: Catalogue, needs: Needs, allows: Allows | None = None) -> Iterator[Verdict]:
    """A verdict for every model that may be used: the chosen, those that fit by rank, the rest by id."""
    places: set[str] = set()
    for place, model in enumerate(ranked(catalogue, needs, allows)):
        places.add(model.id)
        yield Verdict(model, chosen=place == 0, mismatch=None)
    for model in catalogue.get_available_models():
        if model.id not in places and (allows is None or allows(model.id)):
            yield Verdict(model, chosen=False, mismatch=_why_not(model, needs))


def _why_not(model: Model, needs: Needs) -> Mismatch:
    found = mismatch(model, needs)
    if found is not None:
        return found
    if not model.running:
        return Mismatch(MismatchReason.NOT_RUNNING, f"is {model.status}, not running")
    (language,) = model.languages or ("",)
    return Mismatch(
        MismatchReason.ONE_LANGUAGE,
        f"understands '{language}' alone, and nobody has said which language is spoken",
    )


def _has_many_languages(catalogue: Catalogue, needs: Needs, allows: Allows | None) -> bool:
    """Models of one language come last in every order, so the first tells."""
    first = next(_allowed(catalogue.all.fitting(needs), allows), None)
    return first is not None and not first.single_language


def _allowed(models: Iterator[Model], allows: Allows | None) -> Iterator[Model]:
    return models if allows is None else (model for model in models if allows(model.id))
