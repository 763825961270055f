"""Endpoints of variants: which come first, and what is forgotten, counted and told of those that fail."""

import logging
from dataclasses import replace

import pytest

from roundhouse_api.enums import BackendType
from roundhouse_gateway.endpoints import Endpoints
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.snapshot import Entry, Snapshot, Target
from tests.unit.gateway.registry import REGISTRY
from tests.unit.gateway.resources import VARIANT


def entry_at(place: int, *base_urls: str) -> Entry:
    return Entry(REGISTRY[place], VARIANT, None, Target(BackendType.SERVICE, "m", base_urls))


FIRST, SECOND, THIRD = entry_at(0, "http://a", "http://b"), entry_at(1, "http://c"), entry_at(2, "http://d")

NOW = float("inf")
"""For requests that were sent when everything before them was over."""


class House:
    def __init__(self, *entries: Entry) -> None:
        self.registry = Registry(["models"], aliases_enabled=True)
        self.metrics = Metrics(lambda: 0.0, lambda: 0)
        self.endpoints = Endpoints(self.registry, self.metrics)
        self.see(*entries)

    def see(self, *entries: Entry) -> None:
        """The news of a snapshot with these, and no others."""
        self.registry.snapshot = Snapshot(entries)
        for told in self.registry.on_rebuild:
            told()

    def resting(self, entry: Entry = FIRST) -> float:
        return self.metrics.resting_endpoints(entry.model.id).value

    def ejections(self, entry: Entry = FIRST) -> float:
        return self.metrics.ejections(entry.model.id).value


def test_models_whose_endpoints_all_rest_come_last() -> None:
    house = House(FIRST, SECOND, THIRD)
    endpoints = house.endpoints
    endpoints.failed(FIRST, "http://a", "unreachable", NOW)
    assert endpoints.order([FIRST, SECOND, THIRD]) == [FIRST, SECOND, THIRD]
    endpoints.failed(FIRST, "http://b", "broken", NOW)
    assert endpoints.order([FIRST, SECOND, THIRD]) == [SECOND, THIRD, FIRST]
    endpoints.answered(FIRST, "http://b", NOW)
    assert endpoints.order([FIRST, SECOND, THIRD]) == [FIRST, SECOND, THIRD]


def test_an_ejection_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    house = House(FIRST)
    with caplog.at_level(logging.INFO, "roundhouse.gateway"):
        for _ in range(3):
            house.endpoints.failed(FIRST, "http://a", "timeout", NOW)
        assert (house.ejections(), house.resting()) == (1, 1)
        for _ in range(2):
            house.endpoints.answered(FIRST, "http://a", NOW)
        assert (house.ejections(), house.resting()) == (1, 0)
    begun, over = (each.getMessage() for each in caplog.records)
    assert begun.startswith(
        f"endpoint http://a of model {FIRST.model.id!r} fails (timeout): it is passed over"
    )
    assert over == f"endpoint http://a of model {FIRST.model.id!r} answers again"


def test_only_a_first_try_is_a_probe() -> None:
    endpoints = House(FIRST).endpoints
    now = 0.0
    endpoints.ejections.clock = lambda: now
    endpoints.failed(FIRST, "http://a", "unreachable", NOW)
    now = 60.0
    assert list(endpoints.choosable(FIRST, {"http://c"}, object())) == ["http://b"]
    assert list(endpoints.choosable(FIRST, set(), object())) == ["http://a"]
    assert list(endpoints.choosable(FIRST, set(), object())) == ["http://b"]
    assert list(endpoints.choosable(FIRST, {"http://b"}, object())) == ["http://a"], "there is no other"
    assert endpoints.sound(FIRST, {"http://b"}) == []


def test_what_leaves_the_slice_leaves_no_record() -> None:
    house = House(FIRST, SECOND)
    for each in ("http://a", "http://b"):
        house.endpoints.failed(FIRST, each, "unreachable", NOW)
    house.endpoints.failed(SECOND, "http://c", "error", NOW)
    assert house.resting() == 2
    house.see(replace(FIRST, target=Target(BackendType.SERVICE, "m", ("http://b",))), SECOND)
    assert house.resting() == 1
    house.endpoints.failed(FIRST, "http://a", "broken", NOW)
    assert house.resting() == 1, "a request that was there yet says nothing of those that stay"
    house.see()
    assert house.resting() == 0
    house.endpoints.failed(FIRST, "http://b", "broken", NOW)
    assert house.resting() == 0, "nor does one whose model is gone"
    assert not house.endpoints.ejections.troubled
