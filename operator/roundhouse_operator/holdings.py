"""What is known of the cluster, and how much of it concerns one resource.

Filled by the cache, and read by passes; what comes of what is read is decided elsewhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any

from roundhouse_operator.autoscalers import Autoscalers
from roundhouse_operator.core import ids
from roundhouse_operator.core.desired.shared import replica_name
from roundhouse_operator.core.kinds import API_KINDS, ENGINE, POD, VARIANT, Key, Kind
from roundhouse_operator.core.moving import lodges_at
from roundhouse_operator.core.observed import (
    Child,
    Engine,
    Invalid,
    Line,
    Pod,
    Resource,
    Store,
    Vacancy,
    Vain,
    Variant,
    World,
)
from roundhouse_operator.core.placement import Fleet
from roundhouse_operator.core.reports import Reports
from roundhouse_operator.core.rollout.line import Stand
from roundhouse_operator.core.shared.world import EngineWorld, decided_for, serves
from roundhouse_operator.core.status.engine import Usage
from roundhouse_operator.core.verification.proof import ExamFacts
from roundhouse_operator.groups import Groups
from roundhouse_operator.held import Held
from roundhouse_operator.index import VariantIndex
from roundhouse_operator.project import StoredChild, StoredResource
from roundhouse_operator.public_names import PublicNames
from roundhouse_operator.standing import Standing
from roundhouse_operator.stores import Loaders, Mounts, Stores, Wants, build_store


class Holdings:
    """All in one event loop, so nothing is locked."""

    def __init__(self, field_manager: str) -> None:
        self._manager = field_manager
        self._held: dict[Kind, dict[Key, Held]] = defaultdict(dict)
        self._belongings: Groups[Key, Key] = Groups()
        self._engines: Groups[str, Key] = Groups()
        self._parsed: dict[Key, Engine] = {}
        self._taken: dict[str, Counter[str]] = {}
        self._vacancies: dict[Key, Vacancy] = {}
        self._variants = VariantIndex()
        self.autoscalers = Autoscalers()
        self.fleet = Fleet()
        self._names = PublicNames()
        self._exams: dict[Key, ExamFacts] = {}
        self.wants = Wants()
        self._stores: Groups[tuple[str, str], Key] = Groups()
        self._readers: Groups[Key, Key] = Groups()
        self._mounts: Groups[tuple[str, str], Key] = Groups()
        self.loaders = Loaders()
        self._sharing: set[Key] = set()
        self.standing = Standing()
        self._vain: dict[str, Vain] = {}

    def world(self, key: Key, now: int = 0) -> World | None:
        """All that concerns a variant; None once it is gone."""
        variant = self.resource(key)
        return self._world(variant, self._engines_for(variant), now) if variant else None

    def _world(self, variant: Variant, engines: Iterable[Key], now: int = 0) -> World:
        key = variant.key
        belongings = [self._held[one.kind][one].value for one in sorted(self._belongings[key], key=str)]
        children = [one for one in belongings if isinstance(one, StoredChild)]
        read = tuple(self._read(one) for one in children)
        return World(
            variant=variant,
            engines=tuple(engine for one in engines if (engine := self.resource(one))),
            rivals=self._names.rivals(key),
            detours=self._names.detours(key),
            exam=self._exams.get(key, ExamFacts()),
            children=read,
            rollout=next(
                (one.rollout for one in children if one.rollout and one.owner_uid == variant.uid), None
            ),
            pods=tuple(one for one in belongings if isinstance(one, Pod)),
            fleet=self.fleet,
            reports=self._reports(key),
            taken=self._taken,
            vacancy=self._vacancies.get(key),
            line=self._variants.line(key),
            autoscaler=self.autoscalers.of(key),
            stores=Stores(key.namespace, self.store),
            mounts=Mounts(key.namespace, self._mounting),
            progress=self.loaders.progress(key.namespace),
            now=now,
            lodged=self._lodged(key, read),
            seat=self.standing.seat(key),
        )

    def _read(self, child: StoredChild) -> Child:
        return child.read(self._manager, self._vain.get(child.uid))

    def _reports(self, variant: Key) -> Reports:
        """Of its own pods, and of those of an engine that it shares."""
        known, found = self.standing.reports, self._variants.facts(variant)
        engine = found.engine if found and found.engine in self._sharing else None
        pods = (*self._belongings[variant], *(self._belongings[engine] if engine else ()))
        return {pod.name: known[pod] for pod in pods if pod in known}

    def _lodged(self, variant: Key, children: Iterable[Child]) -> int:
        """Looked for only while it moves."""
        name, found = lodges_at(children), self._variants.facts(variant)
        engine = Key(ENGINE, variant.namespace, name)
        if not name or (found and found.engine == engine):
            return 0
        pods = (self._held[one.kind][one].value for one in self._belongings[engine])
        return sum(isinstance(one, Pod) and one.ready and serves(one, variant.name) for one in pods)

    def engine_world(self, key: Key, now: int = 0) -> EngineWorld | None:
        """All that concerns an engine whose pods hold several variants; None: there is no such engine."""
        engine = self.resource(key) if key in self._sharing else None
        if engine is None:
            return None
        belongings = {one: self._held[one.kind][one].value for one in self._belongings[key]}
        shared = (pod.share for pod in belongings.values() if isinstance(pod, Pod) and pod.share)
        served = {Key(VARIANT, engine.namespace, name) for share in shared for name in share.serves}
        children = [one for one in belongings.values() if isinstance(one, StoredChild)]
        read = tuple(self._read(one) for one in sorted(children, key=lambda one: (str(one.kind), one.name)))
        decided = {Key(VARIANT, engine.namespace, name) for child in read for name in decided_for(child)}
        pods = {one: pod for one, pod in belongings.items() if isinstance(pod, Pod)}
        reports, asked = self.standing.reports, self.standing.asked
        return EngineWorld(
            engine=engine,
            variants=tuple(self._members(key, served | decided)),
            children=read,
            rollouts={one.name: one.rollout for one in children if one.rollout},
            pods=tuple(sorted(pods.values(), key=lambda pod: pod.name)),
            fleet=self.fleet,
            reports={one.name: reports[one] for one in pods if one in reports},
            asked=frozenset(one.name for one in pods if one in asked),
            in_use=self._taken,
            vacancy=self._vacancies.get(key),
            now=now,
            taken=lambda number: (
                Key(VARIANT, engine.namespace, replica_name(engine.name, number)) in self._held[VARIANT]
            ),
        )

    def _members(self, engine: Key, there: AbstractSet[Key]) -> Iterator[World]:
        """Variants of an engine, and those that are still `there`.

        Each sees the engines that it has and is to have: what else it might choose is for its own pass.
        """
        for key in sorted(self._variants.members(engine) | there, key=str):
            if variant := self.resource(key):
                yield self._world(variant, sorted(self._variants.engines(key) | {engine}, key=str))

    def store(self, key: Key) -> Store | None:
        """The cache of some weights; None where nothing of it is there."""
        held = [self._held[one.kind][one] for one in sorted(self._belongings[key], key=str)]
        if not held:
            return None
        wanting = self.wants.by(key.namespace, key.name, held[0].weights)
        pods = (self._held[POD][one].value for one in sorted(self._readers[key], key=str))
        readers = tuple(one for one in pods if isinstance(one, Pod))
        return build_store(held[0].weights, [one.value for one in held], wanting, readers)

    def _mounting(self, namespace: str, claim: str) -> tuple[Pod, ...]:
        pods = (self._held[POD][one].value for one in sorted(self._mounts[namespace, claim], key=str))
        return tuple(one for one in pods if isinstance(one, Pod))

    def has(self, key: Key) -> bool:
        return key in self._held[key.kind]

    def resource(self, key: Key) -> Resource[Any] | None:
        """Engines are read once for each version: there are few, and every variant asks for them."""
        held = self._held[key.kind].get(key)
        if held is None or not isinstance(held.value, StoredResource):
            return None
        if key.kind != ENGINE:
            return held.value.read()
        if key not in self._parsed:
            self._parsed[key] = held.value.read()
        return self._parsed[key]

    def award(self, key: Key) -> ids.Award:
        """The public names of a resource that is there."""
        resource = self.resource(key)
        return ids.award(ids.claim(resource), self._names.rivals(key)) if resource else ids.Award((), {})

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

    def counts(self) -> dict[str, int]:
        """How many objects of each kind are held."""
        return {kind.name: len(held) for kind, held in self._held.items()}

    def resources(self) -> Iterator[StoredResource]:
        """Every resource of our four kinds."""
        for kind in API_KINDS:
            for held in self._held[kind].values():
                if isinstance(held.value, StoredResource):
                    yield held.value

    def _engines_for(self, variant: Variant) -> list[Key]:
        """Those that it names, or may choose from."""
        spec = variant.spec
        if isinstance(spec, Invalid):
            return []
        if spec.engine_ref:
            return [Key(ENGINE, variant.namespace, spec.engine_ref.name)]
        return sorted(self._engines[variant.namespace], key=str)
