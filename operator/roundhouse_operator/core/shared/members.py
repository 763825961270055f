"""What each variant asks of the engine that it shares: a model, its memory, how many copies.

A variant that cannot be changed for now (its spec is wrong, its name lost, its weights missing) keeps the
places that it has and gets no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roundhouse_api.conditions import ConditionType
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import GPUMode, ModelVariantSpec, ServingType
from roundhouse_operator.core import effective
from roundhouse_operator.core.desired.env import model_entry
from roundhouse_operator.core.effective import Merged
from roundhouse_operator.core.judging import judge
from roundhouse_operator.core.moving import lodges_at
from roundhouse_operator.core.observed import Engine, Invalid, World
from roundhouse_operator.core.packing import Item
from roundhouse_operator.core.placement.memory import weights_mib
from roundhouse_operator.core.placing import measured_mib
from roundhouse_operator.core.shared.replicas import Replica
from roundhouse_operator.core.shared.world import EngineWorld
from roundhouse_operator.core.weights.delivery import WEIGHTS_PATH, deliver
from roundhouse_operator.core.weights.supply import without_engine


@dataclass(frozen=True, slots=True)
class Member:
    """A variant of the engine. No entry: it keeps what it has."""

    name: str
    wanted: int
    """Copies that it asks for."""
    entry: Manifest | None = None
    mib: int | None = None
    leaving: bool = False
    """Another engine has it now, and does not answer yet: it keeps what it has, and nothing is told of it."""

    @property
    def frozen(self) -> bool:
        return self.entry is None


def read_members(world: EngineWorld, api_hosts: Iterable[str]) -> dict[str, Member]:
    hosts = frozenset(api_hosts)
    members = (_member(world, each, hosts) for each in world.variants)
    return {one.name: one for one in members if one}


def packed_items(
    members: Mapping[str, Member], replicas: Mapping[int, Replica], active: str | None
) -> list[Item]:
    """What is to be packed. `active`: of an Exclusive engine, the only one; empty: whichever there is."""
    items = []
    for member in members.values():
        held = [one for one in replicas.values() if member.name in one.target]
        copies = min(len(held), member.wanted) if member.frozen or active == "" else member.wanted
        if active and member.name != active:
            copies = 0
        entry = member.entry or next((one.entries.get(member.name) for one in held), None)
        # Of what only stays where it is, nobody asks whether it fits.
        mib = (member.mib or 0) if member.frozen else member.mib
        items.append(Item(member.name, entry["name"] if entry else member.name, mib, copies))
    return items


def active_variant(world: EngineWorld, members: Mapping[str, Member]) -> str | None:
    """The one that an Exclusive engine is to load, empty where that one is not there; None on a Shared one.

    What is loaded stays while nobody can take its place.
    """
    spec = world.engine.spec
    if isinstance(spec, Invalid) or spec.serving is None or spec.serving.type is not ServingType.EXCLUSIVE:
        return None
    named = spec.serving.exclusive.active_variant_name if spec.serving.exclusive else None
    member = members.get(named or "")
    return member.name if member and not member.frozen else ""


def _member(world: EngineWorld, one: World, api_hosts: frozenset[str]) -> Member | None:
    variant, spec, engine = one.variant, one.variant.spec, world.engine
    decision = judge(one, api_hosts=api_hosts)
    chosen = decision.choice.engine if decision.choice else None
    uid = chosen.uid if chosen else (variant.status.get("engine") or {}).get("uid")
    if variant.ending:
        return None
    if uid != engine.uid:
        return _leaver(one, spec, engine)
    if isinstance(spec, Invalid):
        return Member(variant.name, _EVERY)
    wanted = 0 if spec.suspend else spec.replicas
    merged = decision.merged
    if decision.refused or merged is None or not _has_weights(one, spec):
        return Member(variant.name, wanted, mib=_memory_mib(one, spec, merged, engine))
    entry = model_entry(variant.name, merged, _weights_path(variant.namespace, spec, engine), spec)
    return Member(variant.name, wanted, entry, _memory_mib(one, spec, merged, engine))


def _leaver(one: World, spec: ModelVariantSpec | Invalid, engine: Engine) -> Member | None:
    if (
        lodges_at(one.children) != engine.name
        or isinstance(spec, Invalid)
        or isinstance(engine.spec, Invalid)
    ):
        return None
    merged = effective.merge(one.variant.name, spec, engine.spec)
    wanted = 0 if spec.suspend else spec.replicas
    return Member(one.variant.name, wanted, mib=_memory_mib(one, spec, merged, engine), leaving=True)


_EVERY = 1000
"""As many copies as there are: of a variant whose spec cannot be read."""


def _has_weights(one: World, spec: ModelVariantSpec) -> bool:
    """Fetched weights are there once the variant's own pass has said so, of this very spec."""
    if without_engine(spec):
        return True
    told = one.variant.condition(ConditionType.WEIGHTS_READY) or {}
    return told.get("status") == "True" and told.get("observedGeneration") == one.variant.generation


def _weights_path(namespace: str, spec: ModelVariantSpec, engine: Engine) -> str | None:
    """In the claim that holds the weights of all variants, each below its key."""
    if without_engine(spec) or isinstance(engine.spec, Invalid):
        return None
    delivery = deliver(namespace, spec, engine.spec.cache, ())
    return f"{WEIGHTS_PATH}/{delivery.key}/files"


def listed_key(entry: Manifest) -> str:
    """Of the weights that an entry names; empty where it names none that were fetched."""
    path = str(entry.get("path") or "")
    return path.removeprefix(f"{WEIGHTS_PATH}/").partition("/")[0] if path.startswith(WEIGHTS_PATH) else ""


def _memory_mib(one: World, spec: ModelVariantSpec, merged: Merged | None, engine: Engine) -> int | None:
    """What it takes at its peak: stated, or measured where that is more; without a GPU its weights' size."""
    if merged is None:
        return None
    gpu = merged.gpu
    if gpu.mode in (None, GPUMode.NONE):
        return weights_mib(spec.source, one.variant.status) or 0
    stated = gpu.min_memory.mib if gpu.min_memory else 0
    return max(stated, measured_mib(one, merged, engine) or 0) or None
