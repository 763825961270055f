"""Ten thousand variants in the gateway: what a choice costs, and how soon a change of one of them counts."""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Final

from roundhouse_api.enums import Stage
from roundhouse_api.keys import Grant
from roundhouse_api.names import ENGINES, MODEL_VARIANTS
from roundhouse_api.selection import Needs
from roundhouse_gateway.bodies import Filter
from roundhouse_gateway.choice import Search, choose
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.records import ENDPOINT_SLICES
from roundhouse_gateway.registry import Registry
from tests.bench.figure import Figure, Result
from tests.bench.gateway import a_gateway
from tests.conformance.gateway.fake_api_server import FakeApiServer
from tests.conformance.gateway.manifests import Manifest, Variant, engine, slice_of
from tests.conformance.gateway.process import GatewayProcess

VARIANTS: Final = 10_000
CHANGES: Final = 40
AGAIN: Final = 25
"""Choices from one snapshot, after the first."""
PORT: Final = 9
UNREADY: Final = {"ready": False, "serving": False, "terminating": False}
LANGUAGES: Final = ("en", "hr", "de", "ja", "pt", "fr")

CHOICE: Final = Figure("gateway", "`auto` among 10,000 running", "µs", "lower", budget=20, noise=0.25)
FIRST_CHOICE: Final = Figure("gateway", "the first `auto` after a change, 10,000", "µs", "lower")
JOIN: Final = Figure("gateway", "joining one change in, 10,000", "ms", "lower", budget=20, noise=0.5)
LIST: Final = Figure("gateway", "list of 10,000 after one change", "ms", "lower", budget=20, noise=0.5)
ROUTED: Final = Figure(
    "gateway", "status change until it is routed on, 10,000", "ms", "lower", budget=50, noise=0.25
)
FIGURES: Final = (CHOICE, FIRST_CHOICE, JOIN, LIST, ROUTED)


def measure() -> Iterator[Result]:
    yield from asyncio.run(_in_this_process())
    with a_gateway(PORT, variants=VARIANTS) as (gateway, api):
        yield Result(ROUTED, median(_routed_ms(gateway, api, number) for number in range(CHANGES)))


async def _in_this_process() -> list[Result]:
    registry, metrics = _house(), Metrics(lambda: 0.0, lambda: 0)
    joins, lists, firsts, choices = [], [], [], []

    def auto(number: int) -> object:
        needs = Needs(Stage.TRANSCRIBE, language=LANGUAGES[number % len(LANGUAGES)])
        return choose(registry.snapshot, "auto", needs, Search(metrics), Grant())

    for number in range(CHANGES):
        registry.apply(ENDPOINT_SLICES, _flipped(number))
        joins.append(_seconds(registry.rebuild))
        lists.append(_seconds(lambda: registry.bodies.models(Filter())))
        firsts += [_seconds(partial(auto, at)) for at in range(len(LANGUAGES))]
        choices += [_seconds(partial(auto, at)) for at in range(AGAIN)]
    return [
        Result(CHOICE, median(choices) * 1e6),
        Result(FIRST_CHOICE, median(firsts) * 1e6),
        Result(JOIN, median(joins) * 1e3),
        Result(LIST, median(lists) * 1e3),
    ]


def _house() -> Registry:
    """As the watches fill it, of variants that differ in what they can do."""
    registry = Registry(["models"], aliases_enabled=True)
    variants = [_variant(number) for number in range(VARIANTS)]
    registry.replace(ENGINES, "models", [engine()])
    registry.replace(ENDPOINT_SLICES, "models", [slice_of(each.name, PORT) for each in variants])
    registry.replace(MODEL_VARIANTS, "models", [each.manifest() for each in variants])
    registry.rebuild()
    return registry


def _variant(number: int) -> Variant:
    return Variant(
        f"variant-{number:04}",
        aliases=(f"alias-{number:04}",),
        languages=LANGUAGES[: 1 + number % len(LANGUAGES)],
        word_timestamps=("None", "Alignment", "Native")[number % 3],
        streaming=("None", "Chunked")[number % 2],
        real_time_factor=f"0.{1 + number % 997:03}",
    )


def _flipped(number: int) -> Manifest:
    """The slice of a variant: not ready at first, then ready again."""
    name = f"variant-{number // 2:04}"
    return slice_of(name, PORT, conditions=None if number % 2 else UNREADY)


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _routed_ms(gateway: GatewayProcess, api: FakeApiServer, number: int) -> float:
    """From the watch event until the model is told to be in its new state, which is when it is routed on."""
    path, expected = f"/v1/models/variant-{number // 2:04}", "running" if number % 2 else "unhealthy"
    api.put("endpointslices", _flipped(number))
    began = time.perf_counter()
    while gateway.get(path).json["status"] != expected:
        if time.perf_counter() - began > 10:
            raise TimeoutError(f"{path} is not {expected} 10 s after the event")
    return (time.perf_counter() - began) * 1e3
