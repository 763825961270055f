"""The load of all gateways: a sum, whole or unknown, and never a zero out of silence."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from roundhouse_operator.core.kinds import VARIANT, Key
from roundhouse_operator.core.scaling import NO_LOAD, Load
from roundhouse_operator.gateways import GatewayPod, read_pods
from roundhouse_operator.hearing import KNOWN_AGAIN, PATIENCE_SECONDS, UNKNOWN, Hearing
from roundhouse_operator.loads import SILENT_SECONDS, Loads

KWS, OTHER = Key(VARIANT, "speech", "kws"), Key(VARIANT, "speech", "other")


class Told:
    """Loads, and the variants that were told to have changed."""

    def __init__(self, *gateways: str) -> None:
        self.changed: list[Key] = []
        self.loads = Loads(self.changed.append)
        for one in gateways:
            self.loads.expect(one, ready=True)

    def account(self, gateway: str, now: float, **loads: Load) -> None:
        self.loads.begin(gateway)
        for name, load in loads.items():
            self.loads.tell(gateway, Key(VARIANT, "speech", name), load, now)
        self.loads.beat(gateway, now)


def test_the_sum_is_over_all_gateways() -> None:
    told = Told("a", "b")
    told.account("a", 10, kws=Load(in_flight=2, held=1))
    told.account("b", 10, kws=Load(in_flight=3, streams=1))
    assert told.loads.of(KWS) == Load(5, 1, 1)
    told.loads.tell("a", KWS, NO_LOAD, 11)
    assert told.loads.of(KWS) == Load(3, 0, 1)
    told.loads.forget("b")
    assert told.loads.of(KWS) == NO_LOAD
    assert told.changed == [KWS] * 4


def test_an_account_replaces_what_was_known_and_only_as_a_whole() -> None:
    told = Told("a")
    told.account("a", 10, kws=Load(in_flight=2), other=Load(held=1))
    told.loads.begin("a")
    told.loads.tell("a", KWS, Load(in_flight=1), 12)
    assert told.loads.of(KWS) == Load(in_flight=2), "half an account is none"
    told.loads.beat("a", 12)
    assert (told.loads.of(KWS), told.loads.of(OTHER)) == (Load(in_flight=1), NO_LOAD)


def test_nothing_is_known_before_every_gateway_was_heard() -> None:
    told = Told()
    assert told.loads.known_since(10) is None, "no gateway, no knowledge"
    for one in ("a", "b"):
        told.loads.expect(one, ready=True)
    told.account("a", 10)
    assert told.loads.known_since(10) is None
    told.account("b", 11)
    assert told.loads.known_since(12) == 11
    told.loads.expect("starting", ready=False)
    assert told.loads.known_since(12) == 11, "it takes no requests yet"
    assert told.loads.heard == 2


def test_silence_is_unknown_and_what_was_told_stands() -> None:
    told = Told("a", "b")
    told.account("a", 10, kws=Load(held=1))
    told.account("b", 10)
    late = 10 + SILENT_SECONDS + 1
    told.loads.beat("b", late)
    assert told.loads.known_since(late) is None
    assert told.loads.of(KWS) == Load(held=1)
    assert told.loads.silent_seconds(late) == SILENT_SECONDS + 1
    told.account("a", late + 1, kws=Load(held=1))
    assert told.loads.known_since(late + 1) == late + 1, "a gap was there, whoever comes back"


def test_a_short_break_is_no_gap() -> None:
    told = Told("a")
    told.account("a", 10)
    told.account("a", 12)
    assert told.loads.known_since(12) == 10


def test_a_gateway_that_is_gone_is_not_missed() -> None:
    told = Told("a", "b")
    told.account("a", 10)
    told.account("b", 10)
    told.loads.forget("b")
    told.loads.beat("a", 12)
    assert told.loads.known_since(14) == 10
    told.loads.tell("b", KWS, Load(held=1), 14)
    told.loads.beat("b", 14)
    assert told.loads.of(KWS) == NO_LOAD


def slices(*endpoints: dict[str, Any], port: str = "metrics") -> dict[str, Any]:
    return {"ports": [{"name": port, "port": 8081}], "endpoints": list(endpoints)}


def test_gateways_are_found_by_the_port_for_metrics() -> None:
    ready = {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "targetRef": {"uid": "u1"}}
    ending = {
        "addresses": ["fd00::1"],
        "conditions": {"ready": False, "terminating": True},
        "targetRef": {"uid": "u2"},
    }
    assert list(read_pods(slices(ready, ending))) == [
        GatewayPod("u1", "http://10.0.0.1:8081/internal/load", ready=True, ending=False),
        GatewayPod("u2", "http://[fd00::1]:8081/internal/load", ready=False, ending=True),
    ]
    assert list(read_pods(slices(ready, port="http"))) == []
    assert list(read_pods({"ports": None, "endpoints": None})) == []
    assert [one.uid for one in read_pods(slices({"addresses": ["10.0.0.3"]}))] == ["10.0.0.3:8081"]


def test_nobody_is_called_silent_before_a_minute_has_passed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told, turns = Told("a"), list[bool | None]()
    hearing = Hearing(told.loads, lambda: turns.append(hearing.deaf))
    for second in range(int(PATIENCE_SECONDS)):
        hearing.look(100.0 + second)
    assert (hearing.deaf, turns) == (None, []), "an operator that begins has heard nobody yet"
    hearing.look(100 + PATIENCE_SECONDS)
    assert turns == [True]
    told.account("a", 170)
    hearing.look(170)
    hearing.look(171)
    assert turns == [True, False]
    for second in range(int(PATIENCE_SECONDS)):
        hearing.look(180.0 + second)
    assert hearing.deaf is False
    hearing.look(180 + PATIENCE_SECONDS)
    assert turns == [True, False, True]
    assert [one.message for one in caplog.records] == [UNKNOWN, KNOWN_AGAIN, UNKNOWN]
