"""Backends that took no connection rest for a while."""

from dataclasses import dataclass, replace

from roundhouse_api.enums import BackendType
from roundhouse_gateway.cooldown import COOLDOWN_SECONDS, Cooldown
from roundhouse_gateway.snapshot import Entry, Target
from tests.unit.gateway.registry import REGISTRY
from tests.unit.gateway.resources import VARIANT


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def entry_at(base_url: str, place: int = 0) -> Entry:
    return Entry(REGISTRY[place], VARIANT, None, Target(BackendType.UPSTREAM, "m", (base_url,)))


FIRST, SECOND, THIRD = entry_at("http://a", 0), entry_at("http://b", 1), entry_at("http://c", 2)


def test_what_rests_comes_last_until_its_time_is_over() -> None:
    clock = Clock()
    cooldown = Cooldown(clock)
    cooldown.begin(FIRST)
    assert cooldown.order([FIRST, SECOND, THIRD]) == [SECOND, THIRD, FIRST]
    clock.now += COOLDOWN_SECONDS
    assert cooldown.order([FIRST, SECOND, THIRD]) == [FIRST, SECOND, THIRD]


def test_an_answer_ends_the_rest() -> None:
    cooldown = Cooldown(Clock())
    cooldown.begin(FIRST)
    cooldown.end(FIRST)
    assert cooldown.order([FIRST, SECOND]) == [FIRST, SECOND]


def test_models_of_one_address_rest_together_and_a_new_address_does_not() -> None:
    cooldown = Cooldown(Clock())
    cooldown.begin(FIRST)
    same, moved = replace(SECOND, target=FIRST.target), replace(FIRST, target=THIRD.target)
    assert cooldown.order([same, THIRD]) == [THIRD, same]
    assert cooldown.order([moved, THIRD]) == [moved, THIRD]
