"""The whole cluster as the gateway knows it at one moment, joined and indexed; never changed, only replaced.

`Join` keeps what hangs on what, so that a change costs what it touches, not what there is: a new snapshot
shares with the last all that stayed. Which names are answered is decided in `claims`, what a variant's status
is in `entry`. Where the records come from is left to `registry`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from roundhouse_api.keys import Grant
from roundhouse_api.selection import Catalogue, Model, Needs, Ranking
from roundhouse_gateway.access import Access
from roundhouse_gateway.claims import Claim, Claims, Key, Names
from roundhouse_gateway.entry import Entry, Target, build_entry, known_stage
from roundhouse_gateway.records import EngineRecord, SliceRecord, VariantRecord

__all__ = ["Entry", "Join", "Snapshot", "Target"]

Allowed = tuple[str, ...]
"""The ids that a key may use, or patterns of them."""
ALL_MODELS: Allowed = Grant().models
MOST_ALLOWED: Final = 64
"""Kinds of keys whose ids one snapshot remembers: these may be ten thousand each."""


class Snapshot:
    """Entries by id, the catalogue over them, and the engines' own resources.

    `wakeable` are the models that a request may wait for. `remembered` is what `auto` came to for requests
    like it, and `of_keys` which ids keys of the same models may use.
    """

    __slots__ = ("catalogue", "engines", "entries", "of_keys", "remembered", "wakeable")

    def __init__(self, entries: Iterable[Entry] = (), engines: Iterable[EngineRecord] = ()) -> None:
        entries = list(entries)
        self.entries: Mapping[str, Entry] = {entry.model.id: entry for entry in entries}
        self.catalogue = Catalogue(entry.model for entry in entries)
        self.wakeable = Ranking.of(_wakeable(entries))
        self.engines = tuple(engines)
        self.remembered: dict[tuple[Needs, Allowed], Sequence[Entry]] = {}
        self.of_keys: dict[Allowed, Collection[str]] = {}

    def resolve(self, name: str) -> Entry:
        """The entry behind a name; the catalogue's `UnknownModelError` where there is none."""
        return self.entries[self.catalogue.resolve(name).id]

    def allowed(self, models: Allowed) -> Collection[str]:
        """The ids that a key with these models may use, in order, and quick to ask for one."""
        found = self.of_keys.get(models)
        if found is None:
            allows = None if models == ALL_MODELS else Grant(models=models).allows_model
            found = dict.fromkeys(each for each in self.catalogue.ids if allows is None or allows(each))
            if len(self.of_keys) < MOST_ALLOWED:
                self.of_keys[models] = found
        return found

    def changed(
        self, gone: Collection[Entry], come: Collection[Entry], engines: Iterable[EngineRecord]
    ) -> "Snapshot":
        """The next one. Entries that stay are not looked at."""
        made = Snapshot.__new__(Snapshot)
        entries = dict(self.entries)
        for entry in gone:
            del entries[entry.model.id]
        entries |= {entry.model.id: entry for entry in come}
        made.entries = entries
        made.catalogue = self.catalogue.changed(
            (entry.model for entry in gone), (entry.model for entry in come)
        )
        made.wakeable = self.wakeable.changed(_wakeable(gone), _wakeable(come))
        made.engines = tuple(engines)
        made.remembered = {}
        made.of_keys = {}
        return made


def _wakeable(entries: Iterable[Entry]) -> Iterator[Model]:
    return (entry.model for entry in entries if entry.may_be_waited_for)


class Join:
    """All records of the served namespaces, and the newest snapshot of them."""

    def __init__(self, namespaces: Sequence[str], *, aliases_enabled: bool) -> None:
        self._rank = {namespace: place for place, namespace in enumerate(namespaces)}
        self._aliases_enabled = aliases_enabled
        self._variants: dict[Key, VariantRecord] = {}
        self._engines: dict[Key, EngineRecord] = {}
        self._slices: dict[Key, SliceRecord] = {}
        self._accesses: dict[Key, Access] = {}
        self._pieces: defaultdict[Key, set[Key]] = defaultdict(set)
        self._of_engine: defaultdict[Key, set[Key]] = defaultdict(set)
        self._of_service: defaultdict[Key, set[Key]] = defaultdict(set)
        self._claims = Claims()
        self._entries: dict[Key, Entry] = {}
        self._stale: set[Key] = set()
        self.snapshot = Snapshot()

    def put_variant(self, key: Key, record: VariantRecord | None) -> None:
        """What is known of the variant now; None: it is gone. The same for the other kinds."""
        before = self._variants.get(key)
        if before == record:
            return
        if before is not None:
            _leave(self._of_engine, (key[0], before.engine), key)
            for backend in before.backends:
                _leave(self._of_service, (key[0], backend.name), key)
        if record is None:
            del self._variants[key]
        else:
            self._variants[key] = record
            self._of_engine[key[0], record.engine].add(key)
            for backend in record.backends:
                self._of_service[key[0], backend.name].add(key)
        self._claims.put(key, self._claim(key, record) if record else None)
        self._stale.add(key)

    def put_engine(self, key: Key, record: EngineRecord | None) -> None:
        before = self._engines.pop(key, None)
        if record is not None:
            self._engines[key] = record
        if (before and before.spec) != (record and record.spec):
            self._stale |= self._of_engine.get(key, set())

    def put_access(self, key: Key, access: Access | None) -> None:
        """What the upstream of that engine is called with."""
        before = self._accesses.pop(key, None)
        if access is not None:
            self._accesses[key] = access
        if before != access:
            self._stale |= self._of_engine.get(key, set())

    def put_slice(self, key: Key, record: SliceRecord | None) -> None:
        before = self._slices.pop(key, None)
        if record is not None:
            self._slices[key] = record
        if before == record:
            return
        if before is not None:
            _leave(self._pieces, (key[0], before.service), key)
            self._stale |= self._of_service.get((key[0], before.service), set())
        if record is not None:
            self._pieces[key[0], record.service].add(key)
            self._stale |= self._of_service.get((key[0], record.service), set())

    def renew(self) -> set[str]:
        """Joins what has changed into a new snapshot; the ids of models that are no longer as they were."""
        self._stale |= self._claims.settle()
        gone, come = [], []
        for key in self._stale:
            before, after = self._entries.pop(key, None), self._build(key)
            if after is not None:
                self._entries[key] = after
            if before != after:
                gone += [before] if before else []
                come += [after] if after else []
        self._stale = set()
        self.snapshot = self.snapshot.changed(gone, come, self._engines_in_order())
        return {entry.model.id for entry in (*gone, *come)}

    def _build(self, key: Key) -> Entry | None:
        record, names = self._variants.get(key), self._claims.won(key)
        if record is None or names is None:
            return None
        namespace = key[0]

        def addresses(service: str) -> set[str]:
            pieces = (self._slices[piece] for piece in self._pieces.get((namespace, service), ()))
            return {each.base_url for piece in pieces for each in piece.endpoints if each.ready}

        at = namespace, record.engine
        return build_entry(record, self._engines.get(at), addresses, names, self._accesses.get(at))

    def _claim(self, key: Key, record: VariantRecord) -> Claim | None:
        if record.served_name not in record.published_names or not known_stage(record):
            return None
        aliases = record.aliases if self._aliases_enabled else ()
        names = (
            tuple(name for name in claimed if name in record.published_names)
            for claimed in (record.alternate_names, aliases)
        )
        return Claim(self._rank[key[0]], key, record.served_name, Names(*names))

    def _engines_in_order(self) -> list[EngineRecord]:
        return sorted(self._engines.values(), key=lambda each: (self._rank[each.namespace], each.name))


def _leave(index: dict[Key, set[Key]], at: Key, key: Key) -> None:
    """What hangs on nothing any more is forgotten."""
    index[at].discard(key)
    if not index[at]:
        del index[at]
