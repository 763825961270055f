"""The models of one moment, by every name they answer to, and in the order in which `auto` takes them."""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Final

from typing_extensions import override

from roundhouse_api.selection.model import Model
from roundhouse_api.selection.ranking import Ranking

LISTED_IDS: Final = 100
"""As many ids as the text of an error names: more help nobody who reads it."""


class UnknownModelError(ValueError):
    """No model answers to the name. The text lists the ids, and is built only where someone reads it."""

    def __init__(self, name: str, catalogue: "Catalogue") -> None:
        super().__init__(name)
        self.name = name
        self._catalogue = catalogue

    @override
    def __str__(self) -> str:
        return self.text(self._catalogue.ids)

    def text(self, ids: Collection[str]) -> str:
        """The same for somebody who is not to be told of all ids, but of these."""
        listed = ", ".join(islice(ids, LISTED_IDS))
        rest = f" and {len(ids) - LISTED_IDS} more" if len(ids) > LISTED_IDS else ""
        return f"Unknown model: '{self.name}'. Available models: {listed}{rest}"


@dataclass(frozen=True, slots=True)
class _Index:
    by_id: dict[str, Model]
    by_name: dict[str, Model]
    ids: list[str]
    all: Ranking
    running: Ranking


class Catalogue:
    """An immutable set of models with unique names, indexed once.

    Where two models claim a name the earlier in `models` keeps it, and an id goes before an alternate name,
    that before an alias.
    """

    __slots__ = ("_index",)

    def __init__(self, models: Iterable[Model] = (), *, index: _Index | None = None) -> None:
        self._index = index or _indexed(models)

    @property
    def ids(self) -> Sequence[str]:
        """All ids in order, without alternate names and aliases."""
        return self._index.ids

    @property
    def all(self) -> Ranking:
        return self._index.all

    @property
    def running(self) -> Ranking:
        return self._index.running

    def changed(self, gone: Iterable[Model], come: Iterable[Model]) -> "Catalogue":
        """Another with some models less and some more; what stays is shared and not looked at.

        `gone` must be as they are here, and of what `come` no name may be taken then.
        """
        return Catalogue(index=_changed(self._index, list(gone), list(come)))

    def resolve(self, name: str) -> Model:
        """The model behind a name; `UnknownModelError` where there is none. Never a substitute."""
        try:
            return self._index.by_name[name]
        except KeyError:
            raise UnknownModelError(name, self) from None

    def get_available_models(self) -> tuple[Model, ...]:
        """All models, running or not, by id."""
        return tuple(self._index.by_id[name] for name in self.ids)

    def get_model_ids(self) -> list[str]:
        """All ids in order, without alternate names and aliases."""
        return list(self.ids)

    def aliases(self) -> dict[str, str]:
        """Alias to id, in the order of the aliases; only those that really lead to their model."""
        return {
            alias: model.id
            for alias, model in sorted(self._index.by_name.items())
            if alias in model.aliases and alias != model.id
        }


def _indexed(models: Iterable[Model]) -> _Index:
    by_id: dict[str, Model] = {}
    for model in models:
        by_id.setdefault(model.id, model)
    by_name = by_id.copy()
    for names_of in (attrgetter("alternate_names"), attrgetter("aliases")):
        for model in by_id.values():
            for name in names_of(model):
                by_name.setdefault(name, model)
    running = filter(attrgetter("running"), by_id.values())
    return _Index(by_id, by_name, sorted(by_id), Ranking.of(by_id.values()), Ranking.of(running))


def _changed(index: _Index, gone: list[Model], come: list[Model]) -> _Index:
    by_id, by_name, ids = index.by_id.copy(), index.by_name.copy(), index.ids.copy()
    for model in gone:
        del by_id[model.id]
        for name in model.names:
            by_name.pop(name, None)
    for model in come:
        by_id[model.id] = model
        by_name |= dict.fromkeys(model.names, model)
    before, after = {model.id for model in gone}, {model.id for model in come}
    for name in before - after:
        del ids[bisect_left(ids, name)]
    for name in after - before:
        insort(ids, name)
    stopped, started = filter(attrgetter("running"), gone), filter(attrgetter("running"), come)
    running = index.running.changed(stopped, started)
    return _Index(by_id, by_name, ids, index.all.changed(gone, come), running)
