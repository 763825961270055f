"""The registry between watches and requests."""

import asyncio
import json
from dataclasses import dataclass

import pytest

from roundhouse_api.names import ENGINES, MODEL_VARIANTS
from roundhouse_gateway.bodies import Filter
from roundhouse_gateway.records import ENDPOINT_SLICES
from roundhouse_gateway.registry import READERS, Registry
from roundhouse_gateway.snapshot import Snapshot
from tests.conformance.gateway.manifests import Variant, engine, slice_of


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> Registry:
    return Registry(["models"], aliases_enabled=True, clock=clock)


async def settle(registry: Registry, before: Snapshot) -> None:
    async with asyncio.timeout(60):
        while registry.snapshot is before:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)


async def fill(registry: Registry) -> None:
    before = registry.snapshot
    registry.replace(ENGINES, "models", [engine()])
    registry.replace(ENDPOINT_SLICES, "models", [slice_of("whisper", 8000)])
    registry.replace(MODEL_VARIANTS, "models", [Variant("whisper").manifest()])
    await settle(registry, before)


async def test_it_is_complete_once_all_kinds_are_listed_and_joined(registry: Registry) -> None:
    registry.replace(ENGINES, "models", [])
    registry.replace(ENDPOINT_SLICES, "models", [])
    assert not registry.complete
    registry.replace(MODEL_VARIANTS, "models", [Variant("whisper").manifest()])
    assert not registry.complete, "listed is not yet joined"
    await settle(registry, registry.snapshot)
    assert registry.complete
    assert list(registry.snapshot.entries) == ["whisper"]


async def test_changes_that_come_together_make_one_snapshot(registry: Registry) -> None:
    await fill(registry)
    before = registry.snapshot
    for number in range(50):
        registry.apply(MODEL_VARIANTS, Variant(f"v{number}").manifest())
    assert registry.snapshot is before
    await settle(registry, before)
    assert len(registry.snapshot.entries) == 51


async def test_a_list_takes_away_what_it_does_not_hold(registry: Registry) -> None:
    await fill(registry)
    before = registry.snapshot
    registry.replace(MODEL_VARIANTS, "models", [Variant("other").manifest()])
    await settle(registry, before)
    assert list(registry.snapshot.entries) == ["other"]


async def test_an_amount_beyond_all_numbers_leaves_the_lists_in_order(registry: Registry) -> None:
    manifest = Variant("greedy").manifest()
    manifest["status"]["effective"]["minMemory"] = "1e400"
    del manifest["status"]["effective"]["displayMemory"]
    await fill(registry)
    before = registry.snapshot
    registry.apply(MODEL_VARIANTS, manifest)
    await settle(registry, before)
    listed = {each["id"]: each["hardware"] for each in json.loads(registry.bodies.engines())["engines"]}
    assert listed["greedy"]["min_memory_gb"] is None
    assert listed["whisper"]["min_memory_gb"] == 2.0


async def test_bodies_are_encoded_once_for_a_snapshot(registry: Registry) -> None:
    await fill(registry)
    assert registry.bodies.models(Filter()) is registry.bodies.models(Filter())
    assert registry.bodies.engines() is registry.bodies.engines()


def test_the_age_is_that_of_what_has_not_been_followed_longest(registry: Registry, clock: Clock) -> None:
    clock.now += 5
    assert registry.age_seconds() == 5
    for plural in READERS:
        registry.connected(plural, "models")
    assert registry.age_seconds() == 0
    registry.disconnected(ENGINES, "models")
    clock.now += 2
    registry.disconnected(MODEL_VARIANTS, "models")
    clock.now += 1
    assert registry.age_seconds() == 3
    registry.connected(ENGINES, "models")
    assert registry.age_seconds() == 1
