"""A snapshot made of the last one and a change is the same as one made of everything, at a fraction of it."""

from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_api.enums import BackendType, Stage
from roundhouse_api.selection import Needs
from roundhouse_gateway import bodies, snapshot
from roundhouse_gateway.bodies import Bodies, Filter
from roundhouse_gateway.records import Backing, EngineRecord, SliceRecord, VariantRecord
from roundhouse_gateway.snapshot import Join, Snapshot
from tests.unit.gateway.resources import ENGINE, READY, UNREADY, VARIANT, joined, slice_with, upstream

NAMESPACES = ("first", "second")
NAMES = ("a", "b", "c")
Key = tuple[str, str]
Change = tuple[str, Key, VariantRecord | EngineRecord | SliceRecord | None]


def variant(namespace: str, name: str, identity: str, alternates: list[str], priority: int) -> VariantRecord:
    others = tuple(other for other in dict.fromkeys(alternates) if other != identity)
    half = len(others) // 2
    return replace(
        VARIANT,
        namespace=namespace,
        name=name,
        served_name=identity,
        published_names=frozenset({identity, *others}),
        alternate_names=others[:half],
        aliases=others[half:],
        priority=priority,
        backends=(Backing(name, BackendType.SERVICE, "m"),),
    )


places = st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(NAMES))


@st.composite
def changes(draw: st.DrawFn) -> Change:
    key = draw(places)
    namespace, name = key
    kind = draw(st.sampled_from(["variant", "variant", "engine", "slice"]))
    if draw(st.integers(0, 4)) == 0:
        return kind, key, None
    if kind == "engine":
        made: EngineRecord = draw(st.sampled_from([ENGINE, upstream()]))
        return kind, (namespace, "fake"), replace(made, namespace=namespace)
    if kind == "slice":
        endpoints = draw(st.sampled_from([(READY,), (UNREADY,), (READY, UNREADY)]))
        return kind, key, slice_with(*endpoints, service=name, namespace=namespace)
    identity = draw(st.sampled_from(["x", "y", "z"]))
    others = draw(st.lists(st.sampled_from(["x", "y", "z", "u", "v"]), max_size=3))
    return kind, key, variant(namespace, name, identity, others, draw(st.integers(0, 2)))


def put(join: Join, change: Change) -> None:
    kind, key, record = change
    match record:
        case VariantRecord():
            join.put_variant(key, record)
        case EngineRecord():
            join.put_engine(key, record)
        case SliceRecord():
            join.put_slice(key, record)
        case None if kind == "variant":
            join.put_variant(key, None)
        case None if kind == "engine":
            join.put_engine(key, None)
        case None:
            join.put_slice(key, None)


def answers(of: Snapshot) -> object:
    """All that a request can tell one snapshot from another by."""
    needs = Needs(stage=Stage.TRANSCRIBE)
    names = {name: _place_of(of, name) for name in ("x", "y", "z", "u", "v")}
    ranked = [model.id for model in of.catalogue.running.fitting(needs)]
    return dict(of.entries), names, list(of.catalogue.ids), ranked, of.engines, of.catalogue.aliases()


def _place_of(of: Snapshot, name: str) -> Key | None:
    try:
        return of.resolve(name).place
    except ValueError:
        return None


@given(st.lists(st.lists(changes(), max_size=4), max_size=12))
def test_piece_by_piece_or_all_at_once(steps: list[list[Change]]) -> None:
    join = Join(NAMESPACES, aliases_enabled=True)
    shown = Bodies(aliases_enabled=True)
    there: dict[tuple[str, Key], VariantRecord | EngineRecord | SliceRecord] = {}
    for step in steps:
        for change in step:
            kind, key, record = change
            if record is None and (kind, key) not in there:
                continue
            if record is None:
                del there[kind, key]
            else:
                there[kind, key] = record
            put(join, change)
        changed = join.renew()
        shown.show(join.snapshot, changed)
        anew = joined(
            [each for each in there.values() if isinstance(each, VariantRecord)],
            [each for each in there.values() if isinstance(each, SliceRecord)],
            [each for each in there.values() if isinstance(each, EngineRecord)],
            namespaces=NAMESPACES,
        )
        assert answers(join.snapshot) == answers(anew)
        afresh = Bodies(aliases_enabled=True)
        afresh.show(anew, anew.entries)
        for wanted in (Filter(), Filter(status=None)):
            assert shown.models(wanted) == afresh.models(wanted)
        assert shown.engines() == afresh.engines()


def house(count: int) -> Join:
    """So many variants that run, each with a Service of its own."""
    join = Join(["models"], aliases_enabled=True)
    join.put_engine(("models", "fake"), ENGINE)
    for number in range(count):
        name = f"v-{number:04}"
        join.put_variant(("models", name), variant("models", name, name, [f"alias-{name}"], 0))
        join.put_slice(("models", name), slice_with(READY, service=name))
    return join


class Count:
    """How often a function was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
        self.calls = 0
        original = getattr(module, name)

        def counted(*given: object) -> object:
            self.calls += 1
            return original(*given)

        monkeypatch.setattr(module, name, counted)

    def since(self) -> int:
        calls, self.calls = self.calls, 0
        return calls


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Count:
    return Count(monkeypatch, snapshot, "build_entry")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Count:
    return Count(monkeypatch, msgspec.json, "encode")


def test_only_what_a_change_touches_is_joined_anew(built: Count) -> None:
    join = house(200)
    join.renew()
    assert built.since() == 200
    join.put_slice(("models", "v-0007"), slice_with(UNREADY, service="v-0007"))
    before = join.snapshot
    assert join.renew() == {"v-0007"}
    assert built.since() == 1
    assert join.snapshot.entries["v-0008"] is before.entries["v-0008"]
    assert before.entries["v-0007"].model.running, "who holds the last snapshot sees no change"


def test_what_comes_again_as_it_was_changes_nothing(built: Count) -> None:
    join = house(20)
    join.renew()
    built.since()
    for entry in list(join.snapshot.entries.values()):
        join.put_variant(entry.place, replace(entry.record))
        join.put_slice(entry.place, slice_with(READY, service=entry.record.name))
    join.put_engine(("models", "fake"), replace(ENGINE, ready_variants=19))
    assert join.renew() == set()
    assert built.since() == 0


def test_an_engine_whose_spec_changes_touches_its_own_alone(built: Count) -> None:
    join = house(20)
    elsewhere = replace(VARIANT, engine="other", served_name="o", published_names=frozenset({"o"}))
    join.put_variant(("models", "o"), elsewhere)
    join.renew()
    built.since()
    join.put_engine(("models", "fake"), replace(upstream(), name="fake"))
    join.renew()
    assert built.since() == 20


def shown_by(join: Join) -> Iterator[Bodies]:
    made = Bodies(aliases_enabled=True)
    while True:
        changed = join.renew()
        made.show(join.snapshot, changed)
        yield made


def test_only_the_item_that_changed_is_encoded_anew(encoded: Count) -> None:
    join = house(200)
    showing = shown_by(join)
    filters = [Filter(), Filter(status=None), Filter(language="en"), Filter(allowed=("v-00*",))]
    made = next(showing)
    first = [made.models(wanted) for wanted in filters]
    assert encoded.since() == 2 * 200, "each item and its aliases once, however many lists hold it"
    assert [made.models(wanted) for wanted in filters] == first
    assert encoded.since() == 0
    join.put_slice(("models", "v-0007"), slice_with(UNREADY, service="v-0007"))
    made = next(showing)
    second = [made.models(wanted) for wanted in filters]
    assert encoded.since() == 2
    assert [b"v-0007" in body for body in second] == [False, True, False, False]
    engines = made.engines()
    assert encoded.since() == 200 + 1, "items of the other list, and the one runtime"
    assert made.engines() is engines


def test_lists_that_clients_make_up_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "KEPT_BYTES", 30_000)
    made = next(shown_by(house(40)))
    for number in range(50):
        made.models(Filter(language=f"x{number}", status=None))
        made.models(Filter())
    kept = [each.body or b"" for each in made._lists.values()]
    assert sum(map(len, kept)) <= 30_000 + len(made.models(Filter()))
    assert made.models(Filter()) is made.models(Filter()), "what is asked for again and again stays"


def test_nothing_of_engines_and_models_that_are_gone_is_kept() -> None:
    join = house(4)
    showing = shown_by(join)
    asked = next(showing)
    asked.models(Filter())
    asked.engines()
    for number in range(100):
        name = f"guest-{number}"
        join.put_engine(("models", name), replace(ENGINE, name=name))
        join.put_variant(
            ("models", name),
            replace(VARIANT, name=name, served_name=name, published_names=frozenset({name})),
        )
        next(showing).engines()
        join.put_engine(("models", name), None)
        join.put_variant(("models", name), None)
        next(showing)
    assert len(asked._runtimes) <= 1
    assert max(len(each._unseen or ()) for each in asked._lists.values()) <= 4
    assert max(map(len, asked._items.values())) <= 4
