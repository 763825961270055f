"""What is known of the cluster, and what a change of it concerns.

Every change answers with the keys whose pass may now come out differently, and with no others: so the
cost of a change grows with what hangs on it and not with the size of the cluster. An older version of an
object never replaces a newer one, in whatever order watches, listings and our own writes report it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import EngineSpec
from roundhouse_operator.autoscalers import Autoscalers
from roundhouse_operator.core import fallbacks, ids
from roundhouse_operator.core.desired.shared import replica_name
from roundhouse_operator.core.kinds import (
    API_KINDS,
    CACHE_KINDS,
    CHILD_KINDS,
    DEVICE_CLASS,
    ENGINE,
    NODE,
    POD,
    RESOURCE_SLICE,
    STORE,
    VARIANT,
    Key,
    Kind,
)
from roundhouse_operator.core.observed import (
    Engine,
    Invalid,
    Line,
    Node,
    Pod,
    Resource,
    Store,
    Variant,
    World,
)
from roundhouse_operator.core.placement import Fleet
from roundhouse_operator.core.placement.devices import DeviceClass, DeviceSlice
from roundhouse_operator.core.replicas import NOBODY, Writer, read_writer, scaler_of
from roundhouse_operator.core.reports import Reports
from roundhouse_operator.core.rollout.line import Stand
from roundhouse_operator.core.shared.world import EngineWorld, answers
from roundhouse_operator.core.sharing import shares_pods
from roundhouse_operator.core.status.engine import Usage
from roundhouse_operator.core.verification.proof import ExamFacts
from roundhouse_operator.core.weights.state import LoaderJob, Progress, Record, VolumeClaim
from roundhouse_operator.groups import Groups
from roundhouse_operator.index import VariantIndex, facts
from roundhouse_operator.project import (
    StoredChild,
    StoredResource,
    owner_of,
    project_child,
    project_pod,
    project_resource,
)
from roundhouse_operator.project_fleet import project_class, project_node, project_slice
from roundhouse_operator.project_weights import key_of, project_stored, store_of
from roundhouse_operator.public_names import PublicNames
from roundhouse_operator.standing import Standing
from roundhouse_operator.stores import Loaders, Stores, Wants, build_store
from roundhouse_operator.tally import Tally

_FLEET: Final[dict[Kind, Callable[[Manifest], Node | DeviceSlice | DeviceClass]]] = {
    NODE: project_node,
    RESOURCE_SLICE: project_slice,
    DEVICE_CLASS: project_class,
}
"""What placement is decided from, and how it is read."""
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


@dataclass(frozen=True, slots=True)
class _Held:
    """An object as it was last seen. `owner` is the variant or engine whose child or pod it is."""

    version: int
    value: (
        StoredResource
        | StoredChild
        | Pod
        | Node
        | DeviceSlice
        | DeviceClass
        | LoaderJob
        | VolumeClaim
        | Record
    )
    owner: Key | None = None
    weights: str = ""
    """Key of the weights that it belongs to; `owner` is then their store."""


class Cache:
    """Filled by watches and listings, read by passes; all in one event loop, so nothing is locked."""

    def __init__(self, field_manager: str, tally: Tally | None = None) -> None:
        self._manager = field_manager
        self._tally = tally or Tally()
        self._scaler = scaler_of(field_manager)
        self._held: dict[Kind, dict[Key, _Held]] = defaultdict(dict)
        self._belongings: Groups[Key, Key] = Groups()
        self._engines: Groups[str, Key] = Groups()
        self._taken: dict[str, Counter[str]] = {}
        self._variants = VariantIndex()
        self.autoscalers = Autoscalers()
        self.fleet = Fleet()
        self._names = PublicNames()
        self._gone: OrderedDict[Key, int] = OrderedDict()
        self._exams: dict[Key, ExamFacts] = {}
        self.wants = Wants()
        self.loaders = Loaders()
        self._sharing: set[Key] = set()
        self.standing = Standing()

    def world(self, key: Key, now: int = 0) -> World | None:
        """All that concerns a variant; None once it is gone."""
        variant = self.resource(key)
        if variant is None:
            return None
        belongings = [self._held[one.kind][one].value for one in sorted(self._belongings[key], key=str)]
        children = [one for one in belongings if isinstance(one, StoredChild)]
        return World(
            variant=variant,
            engines=tuple(self._engines_for(variant)),
            rivals=self._names.rivals(key),
            detours=self._names.detours(key),
            exam=self._exams.get(key, ExamFacts()),
            children=tuple(one.read(self._manager) for one in children),
            rollout=next(
                (one.rollout for one in children if one.rollout and one.owner_uid == variant.uid), None
            ),
            pods=tuple(one for one in belongings if isinstance(one, Pod)),
            fleet=self.fleet,
            reports=self._reports(key),
            taken=self._taken,
            line=self._variants.line(key),
            autoscaler=self.autoscalers.of(key),
            stores=Stores(key.namespace, self.store),
            progress=self.loaders.progress(key.namespace),
            now=now,
            seat=self.standing.seat(key),
        )

    def _reports(self, variant: Key) -> Reports:
        """Of its own pods, and of those of an engine that it shares."""
        known, found = self.standing.reports, self._variants.facts(variant)
        engine = found.engine if found and found.engine in self._sharing else None
        pods = (*self._belongings[variant], *(self._belongings[engine] if engine else ()))
        return {pod.name: known[pod] for pod in pods if pod in known}

    def engine_world(self, key: Key) -> EngineWorld | None:
        """All that concerns an engine whose pods hold several variants; None: there is no such engine."""
        engine = self.resource(key) if key in self._sharing else None
        if engine is None:
            return None
        variants = (self.world(one) for one in sorted(self._variants.users(key), key=str))
        belongings = {one: self._held[one.kind][one].value for one in self._belongings[key]}
        children = [one for one in belongings.values() if isinstance(one, StoredChild)]
        pods = {one: pod for one, pod in belongings.items() if isinstance(pod, Pod)}
        reports, asked = self.standing.reports, self.standing.asked
        return EngineWorld(
            engine=engine,
            variants=tuple(one for one in variants if one),
            children=tuple(
                one.read(self._manager) for one in sorted(children, key=lambda one: (str(one.kind), one.name))
            ),
            rollouts={one.name: one.rollout for one in children if one.rollout},
            pods=tuple(sorted(pods.values(), key=lambda pod: pod.name)),
            fleet=self.fleet,
            reports={one.name: reports[one] for one in pods if one in reports},
            asked=frozenset(one.name for one in pods if one in asked),
            taken=lambda number: (
                Key(VARIANT, engine.namespace, replica_name(engine.name, number)) in self._held[VARIANT]
            ),
        )

    def store(self, key: Key) -> Store | None:
        """The cache of some weights; None where nothing of it is there."""
        held = [self._held[one.kind][one] for one in sorted(self._belongings[key], key=str)]
        if not held:
            return None
        wanting = self.wants.by(key.namespace, key.name, held[0].weights)
        return build_store(held[0].weights, [one.value for one in held], wanting)

    def want(self, variant: Key, stores: frozenset[str]) -> Touched:
        """What a pass over a variant found that it wants; what it no longer wants may have to go."""
        freed = self.wants.put(variant, stores if self.has(variant) else frozenset())
        return Touched(now={Key(STORE, variant.namespace, name) for name in freed})

    def progressed(self, pod: Key, progress: Progress) -> Touched:
        """What a loader says of itself."""
        return Touched(now=self._of(self._held[POD][pod])) if self.loaders.tell(pod, progress) else Touched()

    def has(self, key: Key) -> bool:
        return key in self._held[key.kind]

    def resource(self, key: Key) -> Resource[Any] | None:
        held = self._held[key.kind].get(key)
        return held.value.read() if held and isinstance(held.value, StoredResource) else None

    def award(self, key: Key) -> ids.Award:
        """The public names of a resource that is there."""
        resource = self.resource(key)
        return ids.award(ids.claim(resource), self._names.rivals(key)) if resource else ids.Award((), {})

    def note_exam(self, key: Key, facts: ExamFacts | None) -> None:
        """What was found out about a variant's tests; None once it has none."""
        if facts is None:
            self._exams.pop(key, None)
        else:
            self._exams[key] = facts

    def version(self, key: Key) -> int:
        """Of the object as it was last seen; 0 where there is none."""
        held = self._held[key.kind].get(key)
        return held.version if held else 0

    def usage(self, engine: Key) -> Usage:
        return self._variants.usage(engine)

    def line(self, key: Key) -> Line:
        """The other variants of its engine, while a change of that reaches them."""
        return self._variants.line(key)

    def stand(self, engine: Key, generation: int) -> Stand:
        return self._variants.stand(engine, generation)

    def serve_claims(self, *, served: bool) -> Touched:
        """Whether the cluster serves resource.k8s.io/v1."""
        if self.fleet.claims_served == served:
            return Touched()
        self.fleet.claims_served = served
        return self._placed_anew()

    def counts(self) -> dict[str, int]:
        """How many objects of each kind are held."""
        return {kind.name: len(held) for kind, held in self._held.items()}

    def resources(self) -> Iterator[StoredResource]:
        """Every resource of our four kinds."""
        for kind in API_KINDS:
            for held in self._held[kind].values():
                if isinstance(held.value, StoredResource):
                    yield held.value

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
        key, version = _key(kind, manifest), int(manifest["metadata"]["resourceVersion"])
        before = self._held[kind].get(key)
        if version <= max(before.version if before else 0, self._gone.get(key, 0)):
            return Touched()
        after = _hold(kind, version, manifest, self._writer(kind, manifest, before))
        if isinstance(after.value, Pod):
            self.loaders.put(key, after.value)
        self._held[kind][key] = after
        self._take(key, before, after)
        return Touched() if before and before.value == after.value else self._concerns(key, before, after)

    def remove(self, kind: Kind, manifest: Manifest) -> Touched:
        """A deletion, as a watch reports it; one of an older object of that name is ignored."""
        key, version = _key(kind, manifest), int(manifest["metadata"]["resourceVersion"])
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
        if key.kind == VARIANT:
            touched = self.want(key, frozenset())
            touched.merge(self._concerns(key, before, None))
            return touched
        return self._concerns(key, before, None)

    def _of(self, held: _Held | None) -> set[Key]:
        """Whose passes look at it: a variant's, or those of a store and of all who want it."""
        if held is None or held.owner is None:
            return set()
        owner = held.owner
        wanting = self.wants.by(owner.namespace, owner.name, held.weights) if held.weights else set()
        return {owner, *wanting}

    def _writer(self, kind: Kind, manifest: Manifest, before: _Held | None) -> Writer:
        """Who wrote a variant's `replicas`: the managed fields that say so are dropped on arrival."""
        if kind != VARIANT:
            return NOBODY
        known = before.value.writer if before and isinstance(before.value, StoredResource) else None
        return read_writer(manifest, known, self._scaler)

    def _take(self, key: Key, before: _Held | None, after: _Held | None) -> None:
        if key.kind in API_KINDS:
            self._tally.put(_stored(before), _stored(after))
        if before and before.owner:
            self._belongings.discard(before.owner, key)
        if after and after.owner:
            self._belongings.add(after.owner, key)
        if key.kind == ENGINE:
            (self._sharing.add if after and _shares(after) else self._sharing.discard)(key)
            (self._engines.add if after else self._engines.discard)(key.namespace, key)
        for held, sign in ((before, -1), (after, 1)):
            if held and isinstance(held.value, Pod):
                self._hold_devices(held.value, sign)
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

    def _concerns(self, key: Key, before: _Held | None, after: _Held | None) -> Touched:
        if key.kind in _FLEET:
            return self._placed_anew() if self._refit(key, after) else Touched()
        if key.kind in (POD, *CHILD_KINDS, *CACHE_KINDS):
            return Touched(now=self._of(before) | self._of(after))
        touched = Touched(now={key})
        if key.kind == ENGINE:
            touched.now |= self._variants.users(key) if _asks_anew(before, after) else set()
            return touched
        resource = after.value.read() if after and isinstance(after.value, StoredResource) else None
        claim = ids.claim(resource) if resource else None
        led = fallbacks.wanted(resource) if resource and key.kind == VARIANT else ()
        touched.now |= self._names.put(key, claim, led)
        if key.kind == VARIANT:
            if before is None:
                self.wants.come(key)
            known = facts(resource) if resource else None
            engines = {one.engine for one in (self._variants.facts(key), known) if one and one.engine}
            touched.merge(Touched(*self._variants.put(key, known)))
            (touched.now if _asks_anew(before, after) else touched.soon).update(engines & self._sharing)
        return touched

    def _refit(self, key: Key, after: _Held | None) -> bool:
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

    def _engines_for(self, variant: Variant) -> Iterator[Engine]:
        spec = variant.spec
        if isinstance(spec, Invalid):
            return
        if spec.engine_ref:
            keys = [Key(ENGINE, variant.namespace, spec.engine_ref.name)]
        else:
            keys = sorted(self._engines[variant.namespace], key=str)
        yield from (engine for key in keys if (engine := self.resource(key)))


def _hold(kind: Kind, version: int, manifest: Manifest, writer: Writer) -> _Held:
    if kind in _FLEET:
        return _Held(version, _FLEET[kind](manifest))
    if kind in API_KINDS:
        return _Held(version, project_resource(kind, manifest, writer))
    if store := store_of(kind, manifest):
        stored = project_pod(manifest) if kind == POD else project_stored(kind, manifest)
        return _Held(version, stored, store, key_of(manifest))
    value = project_pod(manifest) if kind == POD else project_child(kind, manifest)
    return _Held(version, value, owner_of(manifest))


def _shares(held: _Held) -> bool:
    spec = held.value.read().spec if isinstance(held.value, StoredResource) else None
    return isinstance(spec, EngineSpec) and shares_pods(spec)


def _stored(held: _Held | None) -> StoredResource | None:
    return held.value if held and isinstance(held.value, StoredResource) else None


def _asks_anew(before: _Held | None, after: _Held | None) -> bool:
    """Whether more than a resource's status changed."""

    def asked(held: _Held | None) -> object:
        value = held.value if held else None
        if not isinstance(value, StoredResource):
            return None
        return (value.uid, value.generation, value.labels, value.restarted_at)

    return asked(before) != asked(after)


def _key(kind: Kind, manifest: Manifest) -> Key:
    metadata = manifest["metadata"]
    return Key(kind, metadata.get("namespace", ""), metadata["name"])
