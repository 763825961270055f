"""The models of one moment, by every name they answer to, and the running ones by what they serve."""

from collections import defaultdict
from collections.abc import Iterable
from operator import attrgetter

from typing_extensions import override

from roundhouse_api.enums import Interface, Stage
from roundhouse_api.selection.model import Model
from roundhouse_api.selection.needs import Needs


class UnknownModelError(ValueError):
    """No model answers to the name. The text lists the ids, and is built only where someone reads it."""

    def __init__(self, name: str, catalogue: "Catalogue") -> None:
        super().__init__(name)
        self.name = name
        self._catalogue = catalogue

    @override
    def __str__(self) -> str:
        return f"Unknown model: '{self.name}'. Available models: {', '.join(self._catalogue.get_model_ids())}"


class Catalogue:
    """An immutable set of models with unique names, indexed once.

    Where two models claim a name the earlier in `models` keeps it, and an id goes before an alternate name,
    that before an alias.
    """

    __slots__ = ("_by_id", "_by_name", "_running", "ranked")

    def __init__(self, models: Iterable[Model]) -> None:
        self._by_id: dict[str, Model] = {}
        for model in models:
            self._by_id.setdefault(model.id, model)
        self._by_name = dict(self._by_id)
        for names_of in (attrgetter("alternate_names"), attrgetter("aliases")):
            for model in self._by_id.values():
                for name in names_of(model):
                    self._by_name.setdefault(name, model)
        self._running = _index_of_running(self._by_id.values())
        self.ranked: dict[Needs, tuple[Model, ...]] = {}

    def resolve(self, name: str) -> Model:
        """The model behind a name; `UnknownModelError` where there is none. Never a substitute."""
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownModelError(name, self) from None

    def get_available_models(self) -> tuple[Model, ...]:
        """All models, running or not, by id."""
        return tuple(self._by_id[name] for name in self.get_model_ids())

    def get_model_ids(self) -> list[str]:
        """All ids in order, without alternate names and aliases."""
        return sorted(self._by_id)

    def aliases(self) -> dict[str, str]:
        """Alias to id, in the order of the aliases; only those that really lead to their model."""
        return {
            alias: model.id
            for alias, model in sorted(self._by_name.items())
            if alias in model.aliases and alias != model.id
        }

    def running(self, stage: Stage, interface: Interface) -> tuple[Model, ...]:
        return self._running.get((stage, interface), ())


def _index_of_running(models: Iterable[Model]) -> dict[tuple[Stage, Interface], tuple[Model, ...]]:
    index: defaultdict[tuple[Stage, Interface], list[Model]] = defaultdict(list)
    for model in models:
        if model.running and model.stage is not None:
            for interface in model.interfaces:
                index[model.stage, interface].append(model)
    return {key: tuple(found) for key, found in index.items()}
