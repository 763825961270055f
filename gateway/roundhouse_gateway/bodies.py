"""The encoded lists of models and engines, kept from snapshot to snapshot: only what changes is made anew.

An item is encoded once for each change of its model, whoever asks for it by whatever filter; a list is put
together from its items once for each change, on the first request after it.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
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
_MANY: Final = 8
"""Where one of so many has changed, all are looked at."""

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
            each.tell(changed, len(snapshot.entries))
        there = {(engine.namespace, engine.name) for engine in snapshot.engines}
        for place in self._runtimes.keys() - there:
            del self._runtimes[place]

    def models(self, wanted: Filter) -> bytes:
        return self._body(model_item, wanted, self._model_list)

    def engines(self, allowed: tuple[str, ...] = ALL_MODELS) -> bytes:
        return self._body(engine_item, Filter(status=None, allowed=allowed), self._engine_list)

    def _body(self, make: Make, wanted: Filter, put_together: Callable[["_List"], bytes]) -> bytes:
        listed = self._lists.pop((make, wanted), None) or _List(wanted)
        self._lists[make, wanted] = listed  # the last one asked for is the last to be dropped
        if listed.body is None:
            listed.catch_up(self._snapshot, partial(self._row, make))
            listed.body = put_together(listed)
            self._drop_oldest()
        return listed.body

    def _drop_oldest(self) -> None:
        kept = sum(len(each.body or b"") for each in self._lists.values())
        for asked in list(self._lists)[:-1]:
            if kept <= KEPT_BYTES and len(self._lists) <= KEPT_LISTS:
                return
            kept -= len(self._lists.pop(asked).body or b"")

    def _model_list(self, listed: "_List") -> bytes:
        models = b",".join(listed.items)
        if not self._aliases_enabled:
            return b'{"object":"list","data":[%b]}' % models
        aliases = b",".join(filter(None, listed.aliases))
        return b'{"object":"list","data":[%b],"aliases":{%b}}' % (models, aliases)

    def _engine_list(self, listed: "_List") -> bytes:
        runtimes = b",".join(map(self._runtime, self._snapshot.engines))
        found = b",".join(listed.items), len(listed.items), runtimes
        return b'{"engines":[%b],"total":%d,"runtimes":[%b]}' % found

    def _row(self, make: Make, name: str) -> tuple[bytes, bytes]:
        """The item, and members of the object that leads from alias to id: none where there is no alias."""
        made, entry = self._items[make], self._snapshot.entries[name]
        if name not in made:
            made[name] = msgspec.json.encode(make(entry))
        if make is not model_item or not entry.model.aliases:
            return made[name], b""
        if name not in self._aliases:
            self._aliases[name] = msgspec.json.encode(dict.fromkeys(entry.model.aliases, name))[1:-1]
        return made[name], self._aliases[name]

    def _runtime(self, engine: EngineRecord) -> bytes:
        place = engine.namespace, engine.name
        known = self._runtimes.get(place)
        if known is None or known[0] is not engine:
            known = self._runtimes[place] = (engine, msgspec.json.encode(runtime_item(engine)))
        return known[1]


class _List:
    """What a filter lets through, by id, and what is to be looked at before that is right."""

    __slots__ = ("_filter", "_ids", "_unseen", "aliases", "body", "items")

    def __init__(self, wanted: Filter) -> None:
        self._filter = wanted
        self._unseen: set[str] | None = None
        self._ids: list[str] = []
        self.items: list[bytes] = []
        self.aliases: list[bytes] = []
        self.body: bytes | None = None

    def tell(self, changed: Collection[str], of: int) -> None:
        """That many models there are. What is worth no look one by one is not kept until somebody asks."""
        self.body = None
        if self._unseen is not None:
            self._unseen |= set(changed)
            if _MANY * len(self._unseen) > of:
                self._unseen = None
                self._ids, self.items, self.aliases = [], [], []

    def catch_up(self, snapshot: Snapshot, row: Callable[[str], tuple[bytes, bytes]]) -> None:
        """After many changes, and at first, all is looked at."""
        entries, passes = snapshot.entries, self._filter.passes
        if self._unseen is None:
            self._ids = [name for name in snapshot.catalogue.ids if passes(entries[name])]
            rows = [row(name) for name in self._ids]
            self.items, self.aliases = [item for item, _ in rows], [alias for _, alias in rows]
        else:
            for name in self._unseen:
                shown = name in entries and passes(entries[name])
                self._place(name, row(name) if shown else None)
        self._unseen = set()

    def _place(self, name: str, row: tuple[bytes, bytes] | None) -> None:
        """Puts it in its place, instead of what was there."""
        at = bisect_left(self._ids, name)
        there = slice(at, at + 1 if self._ids[at : at + 1] == [name] else at)
        self._ids[there] = [name] if row else []
        self.items[there] = [row[0]] if row else []
        self.aliases[there] = [row[1]] if row else []
