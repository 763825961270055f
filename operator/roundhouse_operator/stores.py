"""Who wants which weights: whom a change of a cache concerns, and which caches nobody wants any more.

Variants want weights, and so do engines that hold several models, as long as a pod is told to read them. What
somebody wants is what its last pass found, so nothing is decided twice. Until all of a namespace have had a
pass since the start, nothing in it is known to be unwanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from typing_extensions import override

from roundhouse_operator.core.kinds import ENGINE, STORE, VARIANT, Key
from roundhouse_operator.core.observed import Pod, Store
from roundhouse_operator.core.weights.state import LoaderJob, Progress, Record, VolumeClaim
from roundhouse_operator.groups import Groups


class Wants:
    """By store's name or, where none is known, by the key of the weights. Kept by the cache."""

    def __init__(self) -> None:
        self._wanted: dict[Key, frozenset[str]] = {}
        self._wanting: Groups[tuple[str, str], Key] = Groups()
        self._unheard: Groups[str, Key] = Groups()

    def come(self, who: Key) -> None:
        """A variant or an engine that has not had a pass."""
        self._unheard.add(who.namespace, who)

    def put(self, who: Key, wanted: frozenset[str]) -> frozenset[str]:
        """Of one that had a pass, or that is gone and wants nothing; what it wants newly, or no longer."""
        self._unheard.discard(who.namespace, who)
        before = self._wanted.pop(who, frozenset())
        if wanted:
            self._wanted[who] = wanted
        for name in wanted - before:
            self._wanting.add((who.namespace, name), who)
        for name in before - wanted:
            self._wanting.discard((who.namespace, name), who)
        return before ^ wanted

    def by(self, namespace: str, *names: str) -> set[Key]:
        """Who wants weights by one of these names."""
        return {who for name in names for who in self._wanting[namespace, name]}

    def unheard(self, namespace: str) -> AbstractSet[Key]:
        """Who may want any of them. To be read at once, not to be kept."""
        return self._unheard[namespace]

    def heard_all(self, namespace: str) -> bool:
        return not self._unheard[namespace]


class Stores(Mapping[str, Store]):
    """The caches of a namespace, each put together when it is asked for."""

    def __init__(self, namespace: str, look: Callable[[Key], Store | None]) -> None:
        self._namespace = namespace
        self._look = look

    @override
    def __getitem__(self, name: str) -> Store:
        store = self._look(Key(STORE, self._namespace, name))
        if store is None:
            raise KeyError(name)
        return store

    @override
    def __iter__(self) -> Iterator[str]:
        raise TypeError("the caches of a namespace are looked up by name")

    @override
    def __len__(self) -> int:
        raise TypeError("the caches of a namespace are not counted")


class Mounts(Mapping[str, tuple[Pod, ...]]):
    """The pods of a namespace by a claim that they mount, each looked up when it is asked for."""

    def __init__(self, namespace: str, look: Callable[[str, str], tuple[Pod, ...]]) -> None:
        self._namespace = namespace
        self._look = look

    @override
    def __getitem__(self, claim: str) -> tuple[Pod, ...]:
        return self._look(self._namespace, claim)

    @override
    def __iter__(self) -> Iterator[str]:
        raise TypeError("the claims of a namespace are looked up by name")

    @override
    def __len__(self) -> int:
        raise TypeError("the claims of a namespace are not counted")


def build_store(
    key: str, belongings: Iterable[object], wanting: Iterable[Key], readers: tuple[Pod, ...]
) -> Store:
    values, wanting = tuple(belongings), tuple(wanting)
    return Store(
        key=key,
        jobs=tuple(one for one in values if isinstance(one, LoaderJob)),
        claim=next((one for one in values if isinstance(one, VolumeClaim)), None),
        record=next((one for one in values if isinstance(one, Record)), None),
        pods=tuple(one for one in values if isinstance(one, Pod)),
        readers=readers,
        wanted_by=frozenset(one.name for one in wanting if one.kind == VARIANT),
        listed=any(one.kind == ENGINE for one in wanting),
    )


class Loaders:
    """Pods of which a loader runs: their addresses, and what each last said of its progress."""

    def __init__(self) -> None:
        self.addresses: dict[Key, str] = {}
        self._progress: dict[str, dict[str, Progress]] = {}

    def put(self, key: Key, pod: Pod | None) -> None:
        """A pod as it is now, or None once it is gone."""
        if pod and pod.loader and pod.loader.running and pod.ip:
            self.addresses[key] = pod.ip
        elif self.addresses.pop(key, None):
            said = self._progress.get(key.namespace, {})
            said.pop(key.name, None)
            if not said:
                self._progress.pop(key.namespace, None)

    def tell(self, key: Key, progress: Progress) -> bool:
        """Whether the loader still runs."""
        if key in self.addresses:
            self._progress.setdefault(key.namespace, {})[key.name] = progress
        return key in self.addresses

    def progress(self, namespace: str) -> Mapping[str, Progress]:
        return self._progress.get(namespace, {})
