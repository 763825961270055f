"""Which model answers in the place of one that does not run, is full or fails."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from roundhouse_api.enums import BackendType, FallbackTrigger, Stage
from roundhouse_api.keys import Grant
from roundhouse_api.selection import Needs
from roundhouse_api.v1alpha1 import Capabilities, Fallback
from roundhouse_gateway.choice import Search, choose
from roundhouse_gateway.errors import (
    EngineAnsweredError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnreachableError,
    GatewayError,
    InvalidRequestError,
    NotRunningError,
)
from roundhouse_gateway.fallbacks import MOST, chain, permitted, trigger_of
from roundhouse_gateway.hold_errors import HoldFullError
from roundhouse_gateway.key_errors import ModelNotAllowedError
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.records import Backing, VariantRecord
from roundhouse_gateway.snapshot import Snapshot
from tests.unit.gateway.resources import READY, VARIANT, joined, slice_with

TRANSCRIBE = Needs(stage=Stage.TRANSCRIBE)
ALL = Grant()
UNAVAILABLE = FallbackTrigger.UNAVAILABLE


def model(name: str, *fallbacks: str | Fallback, **changes: object) -> VariantRecord:
    rules = tuple(each if isinstance(each, Fallback) else Fallback(model=each) for each in fallbacks)
    made = replace(
        VARIANT,
        name=name,
        served_name=name,
        published_names=frozenset({name, f"{name}-alias"}),
        alternate_names=(),
        aliases=(f"{name}-alias",),
        backends=(Backing(name, BackendType.SERVICE, name),),
        wanted=False,
        fallbacks=rules,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def house(*records: VariantRecord, asleep: Sequence[str] = ()) -> Snapshot:
    slices = [slice_with(READY, service=each.name) for each in records if each.name not in asleep]
    return joined(records, slices)


ENGLISH = VARIANT.effective.model_copy(update={"capabilities": Capabilities(languages=("en",))})
SPOKEN = replace(TRANSCRIBE, language="pt")


@dataclass(frozen=True)
class Case:
    id: str
    records: tuple[VariantRecord, ...]
    asleep: tuple[str, ...]
    expected: list[str] | type[GatewayError]
    needs: Needs = TRANSCRIBE
    grant: Grant = ALL


CASES = (
    Case("none named", (model("a"), model("b")), (), ["a"]),
    Case("none named and asleep", (model("a"), model("b")), ("a",), NotRunningError),
    Case("it comes first", (model("a", "b"), model("b")), (), ["a", "b"]),
    Case("it does not run", (model("a", "b"), model("b")), ("a",), ["b"]),
    Case("by an alias", (model("a", "b-alias"), model("b")), ("a",), ["b"]),
    Case("in the variant's order", (model("a", "c", "b"), model("b"), model("c")), ("a",), ["c", "b"]),
    Case("none of them runs", (model("a", "b"), model("b")), ("a", "b"), NotRunningError),
    Case("the fallback's own", (model("a", "b"), model("b", "c"), model("c")), ("a", "b"), ["c"]),
    Case(
        "its own before the next",
        (model("a", "b", "d"), model("b", "c"), model("c"), model("d")),
        (),
        ["a", "b", "c", "d"],
    ),
    Case("in a circle", (model("a", "b"), model("b", "a")), (), ["a", "b"]),
    Case("itself", (model("a", "a"),), (), ["a"]),
    Case("nobody", (model("a", "nobody"),), ("a",), NotRunningError),
    Case(
        "only when it says so",
        (model("a", Fallback(model="b", when=(FallbackTrigger.ERROR,))), model("b")),
        ("a",),
        NotRunningError,
    ),
    Case(
        "what cannot do it is left out",
        (model("a", "b", "c"), model("b", effective=ENGLISH), model("c")),
        ("a",),
        ["c"],
        needs=SPOKEN,
    ),
    Case(
        "what the key may not use is left out",
        (model("a", "b", "c"), model("b"), model("c")),
        ("a",),
        ["c"],
        grant=Grant(models=("a", "c")),
    ),
    Case(
        "a key gets nothing by way of a model that it may not use",
        (model("a", "b"), model("b")),
        ("a",),
        ModelNotAllowedError,
        grant=Grant(models=("b",)),
    ),
    Case(
        "what it cannot do itself is not asked of others",
        (model("a", "b", effective=ENGLISH), model("b")),
        (),
        InvalidRequestError,
        needs=SPOKEN,
    ),
)


@pytest.mark.req("S1-17")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_who_answers(case: Case) -> None:
    snapshot, metrics = house(*case.records, asleep=case.asleep), Metrics(lambda: 0.0, lambda: 0)
    if not isinstance(case.expected, list):
        with pytest.raises(case.expected):
            choose(snapshot, "a", case.needs, Search(metrics), case.grant)
        return
    found = choose(snapshot, "a", case.needs, Search(metrics), case.grant)
    assert [entry.model.id for entry in found] == case.expected


def test_auto_asks_nobody_for_fallbacks() -> None:
    snapshot = house(model("a", "b", priority=1), model("b", priority=-1), model("c"))
    found = choose(snapshot, "auto", TRANSCRIBE, Search(Metrics(lambda: 0.0, lambda: 0)), Grant())
    assert [entry.model.id for entry in found] == ["a", "c", "b"]


def test_they_are_bounded() -> None:
    links = [model(f"m{number:02}", f"m{number + 1:02}") for number in range(40)]
    snapshot = house(*links)
    assert len(list(chain(snapshot, snapshot.resolve("m00")))) == MOST


def test_each_rule_names_its_troubles() -> None:
    rules = (
        Fallback(model="b", when=(FallbackTrigger.RATE_LIMITED, FallbackTrigger.TIMEOUT)),
        Fallback(model="c"),
    )
    snapshot = house(model("a", *rules), model("b"), model("c"))
    b, c = snapshot.resolve("b"), snapshot.resolve("c")
    assert [permitted(snapshot, "a", b, each) for each in FallbackTrigger] == [
        each in rules[0].when for each in FallbackTrigger
    ]
    assert all(permitted(snapshot, "a-alias", c, each) for each in FallbackTrigger)
    assert not permitted(snapshot, "b", c, UNAVAILABLE)
    assert not permitted(snapshot, "gone", c, UNAVAILABLE)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotRunningError("a"), UNAVAILABLE),
        (EngineUnreachableError("gone"), UNAVAILABLE),
        (HoldFullError("a"), FallbackTrigger.RATE_LIMITED),
        (EngineTimeoutError("slow"), FallbackTrigger.TIMEOUT),
        (EngineFailedError("broken"), FallbackTrigger.ERROR),
        (EngineAnsweredError(429, [], b""), FallbackTrigger.RATE_LIMITED),
        (EngineAnsweredError(500, [], b""), FallbackTrigger.ERROR),
        (EngineAnsweredError(503, [], b""), UNAVAILABLE),
        (EngineAnsweredError(504, [], b""), FallbackTrigger.TIMEOUT),
        (EngineAnsweredError(400, [], b""), None),
        (InvalidRequestError("wrong"), None),
    ],
    ids=str,
)
def test_what_kind_of_trouble_it_is(error: GatewayError, expected: FallbackTrigger | None) -> None:
    assert trigger_of(error) == expected
