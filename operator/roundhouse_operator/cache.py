"""What a change of the cluster concerns.

Every change answers with the keys whose pass may now come out differently, and with no others: so the
cost of a change grows with what hangs on it and not with the size of the cluster. An older version of an
object never replaces a newer one, in whatever order watches, listings and our own writes report it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from time import time
from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_operator.core import fallbacks, ids
from roundhouse_operator.core.admission import vain_apply
from roundhouse_operator.core.kinds import (
    API_KINDS,
    CACHE_KINDS,
    CHILD_KINDS,
    ENGINE,
    NODE,
    POD,
    RESOURCE_SLICE,
    SERVICE,
    STORE,
    VARIANT,
    Key,
    Kind,
)
from roundhouse_operator.core.moving import lodges_at
from roundhouse_operator.core.observed import Node, Pod, Vacancy
from roundhouse_operator.core.placement.devices import DeviceClass, DeviceSlice
from roundhouse_operator.core.replicas import NOBODY, Writer, read_writer, scaler_of
from roundhouse_operator.core.shared.world import answers
from roundhouse_operator.core.verification.proof import ExamFacts
from roundhouse_operator.core.weights.state import Progress
from roundhouse_operator.held import FLEET, Held, accepts_anew, asks_anew, hold, object_key, shares, stored
from roundhouse_operator.holdings import Holdings
from roundhouse_operator.index import facts
from roundhouse_operator.project import StoredChild, StoredResource
from roundhouse_operator.tally import Tally

REMEMBERED: Final = 1000
"""Objects of which is known that they are gone."""


@dataclass(slots=True)
class Touched:
    """Keys to look at: at once, or a little later because many changes concern the same one."""

    now: set[Key] = field(default_factory=set)
    soon: set[Key] = field(default_factory=set)

    def merge(self, other: Touched) -> None:
        self.now |= other.now
        self.soon |= other.soon


class Cache(Holdings):
    """Filled by watches and listings."""

    def __init__(
        self, field_manager: str, tally: Tally | None = None, clock: Callable[[], float] = time
    ) -> None:
        super().__init__(field_manager)
        self._clock = clock
        self._tally = tally or Tally()
        self._scaler = scaler_of(field_manager)
        self._gone: OrderedDict[Key, int] = OrderedDict()

    def want(self, who: Key, stores: frozenset[str]) -> Touched:
        """What a pass found that a variant, or an engine, wants.

        What it no longer wants may have to go, and what it wants now may bear the mark that nobody does.

        By name of the store or, where that is not known, by the key of the weights, wherever they are.
        """
        changed = self.wants.put(who, stores if self.has(who) else frozenset())
        there = {store for name in changed for store in self._stores[who.namespace, name]}
        return Touched(now=there | {Key(STORE, who.namespace, name) for name in changed})

    def choose(self, variant: Key, engine: Key | None) -> Touched:
        """What a pass chose for a variant: engines whose pods hold several have to know of it."""
        return Touched(now=self._variants.choose(variant, engine) & self._sharing)

    def progressed(self, pod: Key, progress: Progress) -> Touched:
        """What a loader says of itself."""
        return Touched(now=self._of(self._held[POD][pod])) if self.loaders.tell(pod, progress) else Touched()

    def note_exam(self, key: Key, facts: ExamFacts | None) -> None:
        """What was found out about a variant's tests; None once it has none."""
        if facts is None:
            self._exams.pop(key, None)
        else:
            self._exams[key] = facts

    def note_vain(self, kind: Kind, wanted: Manifest) -> Touched:
        """An apply of `wanted` changed nothing about the child that there is."""
        held = self._held[kind].get(object_key(kind, wanted))
        if held is None or not isinstance(held.value, StoredChild):
            return Touched()
        child = self._read(held.value)
        vain = vain_apply(wanted, child)
        if not vain.paths or vain == child.vain:
            return Touched()
        self._vain[child.uid] = vain
        return Touched(now=self._of(held))

    def serve_claims(self, *, served: bool) -> Touched:
        """Whether the cluster serves resource.k8s.io/v1."""
        if self.fleet.claims_served == served:
            return Touched()
        self.fleet.claims_served = served
        return self._placed_anew()

    def keep(
        self, kind: Kind, namespace: str | None, names: Container[tuple[str, str]], version: int
    ) -> Touched:
        """A listing had `names` as of `version`: whatever else there is is gone, unless it is newer."""
        touched = Touched()
        for key, held in list(self._held[kind].items()):
            listed = namespace is None or key.namespace == namespace
            if listed and (key.namespace, key.name) not in names and held.version <= version:
                touched.merge(self.forget(key, version))
        return touched

    def reported(self, pod: Key) -> Touched:
        """Whom it concerns that the engine of a pod told something new."""
        held = self._held[POD].get(pod)
        owner = held.owner if held else None
        if owner is None or (owner.kind == VARIANT and pod not in self.standing.reports):
            return Touched()  # the silence of a pod of its own tells a variant nothing
        return Touched(now={owner})

    def upsert(self, kind: Kind, manifest: Manifest) -> Touched:
        key, version = object_key(kind, manifest), int(manifest["metadata"]["resourceVersion"])
        before = self._held[kind].get(key)
        if version <= max(before.version if before else 0, self._gone.get(key, 0)):
            return Touched()
        after = hold(kind, version, manifest, self._writer(kind, manifest, before))
        if isinstance(after.value, Pod):
            self.loaders.put(key, after.value)
        self._held[kind][key] = after
        self._take(key, before, after)
        return Touched() if before and before.value == after.value else self._concerns(key, before, after)

    def remove(self, kind: Kind, manifest: Manifest) -> Touched:
        """A deletion, as a watch reports it; one of an older object of that name is ignored."""
        key, version = object_key(kind, manifest), int(manifest["metadata"]["resourceVersion"])
        held = self._held[kind].get(key)
        if held and held.version > version:
            return Touched()
        return self.forget(key, version)

    def forget(self, key: Key, version: int | None = None) -> Touched:
        """An object that is gone, since `version` at the latest.

        That is remembered for a while: the answer to a write of ours may arrive behind the news of its end.
        """
        before = self._held[key.kind].pop(key, None)
        known = before.version if before else 0
        self._gone[key] = max(self._gone.pop(key, 0), known if version is None else version)
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)
        if before is None:
            return Touched()
        self._take(key, before, None)
        self.loaders.put(key, None)
        if isinstance(before.value, StoredChild):
            self._vain.pop(before.value.uid, None)
        if isinstance(before.value, Pod) and before.value.node and before.owner and self.has(before.owner):
            self._vacancies[before.owner] = Vacancy(before.value.node, int(self._clock()))
        if key.kind in (VARIANT, ENGINE):
            self._vacancies.pop(key, None)
            touched = self.want(key, frozenset())
            touched.merge(self._concerns(key, before, None))
            return touched
        return self._concerns(key, before, None)

    def _of(self, held: Held | None) -> set[Key]:
        """Whose passes look at it: a variant's, or those of a store and of all who want it."""
        if held is None or held.owner is None:
            return set()
        owner = held.owner
        wanting = self.wants.by(owner.namespace, owner.name, held.weights) if held.weights else set()
        return {owner, *wanting}

    def _writer(self, kind: Kind, manifest: Manifest, before: Held | None) -> Writer:
        """Who wrote a variant's `replicas`: the managed fields that say so are dropped on arrival."""
        if kind != VARIANT:
            return NOBODY
        known = before.value.writer if before and isinstance(before.value, StoredResource) else None
        return read_writer(manifest, known, self._scaler)

    def _take(self, key: Key, before: Held | None, after: Held | None) -> None:
        if key.kind in API_KINDS:
            self._tally.put(stored(before), stored(after))
        if before and before.owner:
            self._belongings.discard(before.owner, key)
            if before.weights and not self._belongings[before.owner]:
                self._stores.discard((key.namespace, before.weights), before.owner)
        if after and after.owner:
            self._belongings.add(after.owner, key)
            if after.weights:
                self._stores.add((key.namespace, after.weights), after.owner)
        if key.kind == ENGINE:
            (self._sharing.add if after and shares(after) else self._sharing.discard)(key)
            (self._engines.add if after else self._engines.discard)(key.namespace, key)
            self._parsed.pop(key, None)
        for held, sign in ((before, -1), (after, 1)):
            if held and isinstance(held.value, Pod):
                self._hold_devices(held.value, sign)
                if store := held.value.store:
                    change = self._readers.add if sign > 0 else self._readers.discard
                    change(Key(STORE, key.namespace, store), key)
                for claim in held.value.claims:
                    mounts = self._mounts.add if sign > 0 else self._mounts.discard
                    mounts((key.namespace, claim), key)
        if key.kind == POD:
            pod = after.value if after and isinstance(after.value, Pod) else None
            self.standing.put_pod(key, pod.address if pod and answers(pod) and not pod.ending else "")

    def _hold_devices(self, pod: Pod, sign: int) -> None:
        if not (pod.devices and pod.node) or pod.failure:
            return
        there = self._taken.setdefault(pod.node, Counter())
        for name, count in pod.devices:
            there[name] += sign * count
        if not any(there.values()):
            del self._taken[pod.node]

    def _concerns(self, key: Key, before: Held | None, after: Held | None) -> Touched:
        if key.kind in FLEET:
            return self._placed_anew() if self._refit(key, after) else Touched()
        if key.kind in (POD, *CHILD_KINDS, *CACHE_KINDS):
            moved = {
                *self._lodgers(key, before),
                *self._lodgers(key, after),
                *self._left(key.namespace, before, after),
            }
            return Touched(now=self._of(before) | self._of(after) | moved)
        touched = Touched(now={key})
        if key.kind in (VARIANT, ENGINE) and before is None:
            self.wants.come(key)
        if key.kind == ENGINE:
            if asks_anew(before, after) or accepts_anew(before, after):
                touched.now |= self._variants.users(key)
            return touched
        resource = after.value.read() if after and isinstance(after.value, StoredResource) else None
        claim = ids.claim(resource) if resource else None
        led = fallbacks.wanted(resource) if resource and key.kind == VARIANT else ()
        touched.now |= self._names.put(key, claim, led)
        if key.kind == VARIANT:
            known = facts(resource) if resource else None
            engines = self._variants.engines(key)
            touched.merge(Touched(*self._variants.put(key, known)))
            engines |= self._variants.engines(key)
            (touched.now if asks_anew(before, after) else touched.soon).update(engines & self._sharing)
        return touched

    def _lodgers(self, key: Key, held: Held | None) -> Iterator[Key]:
        """Variants that a shared engine's pod serves although another engine has them now."""
        share = held.value.share if held and isinstance(held.value, Pod) else None
        for name in share.serves if share else ():
            variant = Key(VARIANT, key.namespace, name)
            found = self._variants.facts(variant)
            if found and held and found.engine != held.owner:
                yield variant

    def _left(self, namespace: str, before: Held | None, after: Held | None) -> Iterator[Key]:
        """The engine whose pods a variant's Service no longer leads to."""
        services = [one.value for one in (before, after) if one and isinstance(one.value, StoredChild)]
        if len(services) == 2 and services[0].kind == SERVICE:
            names = [lodges_at([one.read(self._manager)]) for one in services]
            engine = Key(ENGINE, namespace, names[0])
            if names[0] != names[1] and engine in self._sharing:
                yield engine

    def _refit(self, key: Key, after: Held | None) -> bool:
        """Whether what the nodes offer, or a verdict on one of them, is another one now."""
        value = after.value if after else None
        if key.kind == NODE:
            return self.fleet.put_node(key.name, value if isinstance(value, Node) else None)
        if key.kind == RESOURCE_SLICE:
            return self.fleet.put_slice(key.name, value if isinstance(value, DeviceSlice) else None)
        return self.fleet.put_class(key.name, value if isinstance(value, DeviceClass) else None)

    def _placed_anew(self) -> Touched:
        """Engines count nodes, and variants without a node may get one."""
        return Touched(soon={*self._held[ENGINE], *self._variants.waiting()})
