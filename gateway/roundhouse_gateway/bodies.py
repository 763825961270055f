"""The encoded lists of models and engines, kept from snapshot to snapshot: only what changes is made anew.

An item is encoded once for each change of its model, whoever asks for it by whatever filter; a list is put
together from its items once for each change, on the first request after it.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from roundhouse_api.keys import Grant
from roundhouse_api.selection import ModelStatus
from roundhouse_gateway.entry import Entry
from roundhouse_gateway.records import EngineRecord
from roundhouse_gateway.snapshot import ALL_MODELS, Snapshot
from roundhouse_gateway.views import engine_item, model_item, runtime_item, stage_word

KEPT_BYTES: Final = 48 << 20
"""Bodies of lists, all together: one of ten thousand models is four megabytes, and clients choose filters."""
KEPT_LISTS: Final = 64

Make = Callable[[Entry], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which models to list; None of `status` means all, of the others no restriction."""

    status: ModelStatus | None = ModelStatus.RUNNING
    stage: str | None = None
    language: str | None = None
    allowed: tuple[str, ...] = ALL_MODELS
    """The ids that whoever asks may use, or patterns of them."""

    def passes(self, entry: Entry) -> bool:
        model = entry.model
        return (
            (self.status is None or model.status is self.status)
            and (self.stage is None or stage_word(entry) == self.stage)
            and (self.language is None or model.speaks(self.language))
            and (self.allowed == ALL_MODELS or Grant(models=self.allowed).allows_model(model.id))
        )


class Bodies:
    """All lists that were asked for lately, as of the newest snapshot."""

    def __init__(self, *, aliases_enabled: bool) -> None:
        self._aliases_enabled = aliases_enabled
        self._snapshot = Snapshot()
        self._items: dict[Make, dict[str, bytes]] = {model_item: {}, engine_item: {}}
        self._aliases: dict[str, bytes] = {}
        self._runtimes: dict[tuple[str, str], tuple[EngineRecord, bytes]] = {}
        self._lists: dict[tuple[Make, Filter], _List] = {}

    def show(self, snapshot: Snapshot, changed: Collection[str]) -> None:
        """From now on the lists are of this snapshot. All but the models with these ids are as before."""
        self._snapshot = snapshot
        for made in (*self._items.values(), self._aliases):
            for name in changed:
                made.pop(name, None)
        for each in self._lists.values():
            each.tell(changed)

    def models(self, wanted: Filter) -> bytes:
        return self._body(model_item, wanted, self._model_list)

    def engines(self, allowed: tuple[str, ...] = ALL_MODELS) -> bytes:
        return self._body(engine_item, Filter(status=None, allowed=allowed), self._engine_list)

    def _body(self, make: Make, wanted: Filter, put_together: Callable[[list[str]], bytes]) -> bytes:
        listed = self._lists.pop((make, wanted), None) or _List(wanted)
        self._lists[make, wanted] = listed  # the last one asked for is the last to be dropped
        if listed.body is None:
            listed.catch_up(self._snapshot)
            listed.body = put_together(listed.ids)
            self._drop_oldest()
        return listed.body

    def _drop_oldest(self) -> None:
        kept = sum(len(each.body or b"") for each in self._lists.values())
        for asked in list(self._lists)[:-1]:
            if kept <= KEPT_BYTES and len(self._lists) <= KEPT_LISTS:
                return
            kept -= len(self._lists.pop(asked).body or b"")

    def _model_list(self, ids: list[str]) -> bytes:
        models = b",".join(self._encoded(model_item, ids))
        if not self._aliases_enabled:
            return b'{"object":"list","data":[%b]}' % models
        known, made = self._aliases.get, self._made_aliases
        fragments = (made(name) if (found := known(name)) is None else found for name in ids)
        aliases = b",".join(filter(None, fragments))
        return b'{"object":"list","data":[%b],"aliases":{%b}}' % (models, aliases)

    def _engine_list(self, ids: list[str]) -> bytes:
        engines = b",".join(self._encoded(engine_item, ids))
        runtimes = b",".join(map(self._runtime, self._snapshot.engines))
        return b'{"engines":[%b],"total":%d,"runtimes":[%b]}' % (engines, len(ids), runtimes)

    def _encoded(self, make: Make, ids: list[str]) -> list[bytes]:
        made, entries = self._items[make], self._snapshot.entries
        for name in ids:
            if name not in made:
                made[name] = msgspec.json.encode(make(entries[name]))
        return [made[name] for name in ids]

    def _made_aliases(self, name: str) -> bytes:
        """Members of the object that leads from alias to id; none where the model has no alias."""
        aliases = dict.fromkeys(self._snapshot.entries[name].model.aliases, name)
        made = self._aliases[name] = msgspec.json.encode(aliases)[1:-1]
        return made

    def _runtime(self, engine: EngineRecord) -> bytes:
        place = engine.namespace, engine.name
        known = self._runtimes.get(place)
        if known is None or known[0] is not engine:
            known = self._runtimes[place] = (engine, msgspec.json.encode(runtime_item(engine)))
        return known[1]


class _List:
    """The ids that a filter lets through, in order, and what is to be looked at before they are right."""

    __slots__ = ("_filter", "_unseen", "body", "ids")

    def __init__(self, wanted: Filter) -> None:
        self._filter = wanted
        self._unseen: set[str] | None = None
        self.ids: list[str] = []
        self.body: bytes | None = None

    def tell(self, changed: Collection[str]) -> None:
        self.body = None
        if self._unseen is not None:
            self._unseen |= set(changed)

    def catch_up(self, snapshot: Snapshot) -> None:
        """After many changes, and at first, all is looked at."""
        entries, passes = snapshot.entries, self._filter.passes
        if self._unseen is None or 8 * len(self._unseen) > len(entries):
            self.ids = [name for name in snapshot.catalogue.ids if passes(entries[name])]
        else:
            for name in self._unseen:
                self._place(name, shown=name in entries and passes(entries[name]))
        self._unseen = set()

    def _place(self, name: str, *, shown: bool) -> None:
        at = bisect_left(self.ids, name)
        there = at < len(self.ids) and self.ids[at] == name
        if shown and not there:
            self.ids.insert(at, name)
        elif there and not shown:
            del self.ids[at]
