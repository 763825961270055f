"""Records joined to what is answered: names, status, endpoints."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from roundhouse_api.enums import BackendType, Device, Dialect, RouteName
from roundhouse_api.selection import ModelStatus, UnknownModelError
from roundhouse_api.v1alpha1 import Effective, Performance
from roundhouse_gateway.access import Access
from roundhouse_gateway.records import Backing, EngineRecord, SliceRecord, Summary, VariantRecord
from roundhouse_gateway.snapshot import Join, Snapshot
from tests.unit.gateway.resources import (
    ENGINE,
    READY,
    SERVING,
    UNREADY,
    VARIANT,
    joined,
    lost,
    slice_with,
    upstream,
)


def snapshot_of(
    *variants: VariantRecord,
    slices: Sequence[SliceRecord] = (),
    engines: Sequence[EngineRecord] = (ENGINE,),
    namespaces: Sequence[str] = ("models",),
    aliases: bool = True,
) -> Snapshot:
    return joined(variants, slices, engines, namespaces=namespaces, aliases=aliases)


@dataclass(frozen=True)
class Case:
    id: str
    available: Summary
    slices: tuple[SliceRecord, ...]
    expected: ModelStatus
    wanted: bool = True


CASES = (
    Case("serving", SERVING, (slice_with(READY),), ModelStatus.RUNNING),
    Case("operator-away", lost("Starting"), (slice_with(READY),), ModelStatus.RUNNING),
    Case("some-ready", SERVING, (slice_with(UNREADY, READY),), ModelStatus.RUNNING),
    Case("second-slice", SERVING, (slice_with(UNREADY), slice_with(READY)), ModelStatus.RUNNING),
    Case("lost-before-the-operator-saw", SERVING, (slice_with(UNREADY),), ModelStatus.UNHEALTHY),
    Case("scaled-down", SERVING, (), ModelStatus.AVAILABLE, wanted=False),
    Case("lost", lost("EndpointLost"), (), ModelStatus.UNHEALTHY),
    Case("astray", lost("NoEndpoints"), (), ModelStatus.UNHEALTHY),
    Case("crash-loop", lost("CrashLoop"), (), ModelStatus.UNHEALTHY),
    Case("starting", lost("Starting"), (slice_with(UNREADY),), ModelStatus.AVAILABLE),
    Case("idle", lost("Idle"), (), ModelStatus.AVAILABLE),
    Case("no-gpu", lost("InsufficientGPU"), (), ModelStatus.AVAILABLE),
    Case("another-service", SERVING, (slice_with(READY, service="else"),), ModelStatus.UNHEALTHY),
    Case("another-namespace", SERVING, (slice_with(READY, namespace="else"),), ModelStatus.UNHEALTHY),
)


@pytest.mark.req("S1-13", "S1-14", "S1-15")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_status(case: Case) -> None:
    record = replace(VARIANT, available=case.available, wanted=case.wanted)
    assert snapshot_of(record, slices=case.slices).resolve("whisper-base").model.status is case.expected


def test_only_ready_endpoints_are_given_requests() -> None:
    target = snapshot_of(VARIANT, slices=[slice_with(READY, UNREADY)]).resolve("base").target
    assert target is not None
    assert (target.base_urls, target.model_name) == (("http://10.0.0.1:8000",), "base")


def test_an_ipv6_address_is_bracketed() -> None:
    target = snapshot_of(VARIANT, slices=[slice_with(replace(READY, host="fd00::1"))]).resolve("base").target
    assert target is not None
    assert target.base_urls == ("http://[fd00::1]:8000",)


@pytest.mark.req("S1-1")
def test_a_variant_answers_to_the_names_it_has_won_and_to_no_other() -> None:
    won = replace(VARIANT, published_names=frozenset({"whisper-base", "base"}))
    snapshot = snapshot_of(won)
    assert snapshot.resolve("base").model.alternate_names == ()
    for name in ("Systran/base", "whisper"):
        with pytest.raises(UnknownModelError):
            snapshot.resolve(name)


def test_a_variant_that_lost_its_id_is_not_there_at_all() -> None:
    assert snapshot_of(replace(VARIANT, published_names=frozenset({"base"}))).entries == {}


@pytest.mark.req("S1-4")
def test_without_aliases_alternate_names_stay() -> None:
    snapshot = snapshot_of(VARIANT, aliases=False)
    assert snapshot.resolve("Systran/base").model.id == "whisper-base"
    with pytest.raises(UnknownModelError):
        snapshot.resolve("base")


def test_across_namespaces_the_earlier_wins_name_by_name() -> None:
    first = replace(VARIANT, namespace="first", served_name="x", published_names=frozenset({"x", "base"}))
    second = replace(VARIANT, namespace="second")
    snapshot = snapshot_of(second, first, engines=(), namespaces=("first", "second"))
    assert snapshot.resolve("base").model.id == "x"
    assert snapshot.resolve("whisper-base").model.aliases == ()
    assert snapshot.resolve("Systran/base").model.id == "whisper-base"
    reversed_order = snapshot_of(second, first, engines=(), namespaces=("second", "first"))
    assert reversed_order.resolve("base").model.id == "whisper-base"


def test_a_name_that_an_earlier_namespace_has_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    join = Join(("first", "second"), aliases_enabled=True)
    for namespace in ("second", "first"):
        join.put_variant((namespace, VARIANT.name), replace(VARIANT, namespace=namespace))
    join.renew()
    told = [one for one in caplog.messages if "'whisper-base' leads to" in one]
    assert len(told) == 1
    assert f"leads to first/{VARIANT.name}, not to second/{VARIANT.name}" in told[0]
    caplog.clear()
    join.put_variant(("second", VARIANT.name), replace(VARIANT, namespace="second", priority=7))
    join.renew()
    assert caplog.messages == []


@pytest.mark.req("S1-14")
def test_a_variant_whose_engine_is_missing_is_known_and_does_not_run() -> None:
    record = replace(VARIANT, effective=Effective(), engine="", available=lost("EngineNotFound"))
    model = snapshot_of(record, slices=[slice_with(READY)]).resolve("base").model
    assert (model.stage, model.status) == (None, ModelStatus.AVAILABLE)


def test_a_stage_of_a_newer_version_is_left_out() -> None:
    assert snapshot_of(replace(VARIANT, effective=Effective(stage="Telepathy"))).entries == {}


@pytest.mark.parametrize(
    ("device", "expected"), [(None, 0.03), (Device.GPU, 0.03), (Device.CPU, 0.4)], ids=str
)
def test_speed_is_that_of_the_device_it_runs_on(device: Device | None, expected: float) -> None:
    entry = snapshot_of(replace(VARIANT, device=device)).resolve("base")
    assert entry.model.real_time_factor == expected


def test_speed_may_be_unknown() -> None:
    effective = VARIANT.effective.model_copy(update={"performance": Performance()})
    model = snapshot_of(replace(VARIANT, effective=effective)).resolve("base").model
    assert (model.real_time_factor, model.speed_factor) == (None, None)


def test_a_region_in_the_catalogue_is_no_hindrance() -> None:
    assert snapshot_of(VARIANT).resolve("base").model.speaks("pt")


HOSTED = replace(VARIANT, backends=(Backing("fake", BackendType.UPSTREAM, "whisper-1"),))


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.example.org/v1", "https://api.example.org/v1/audio/transcriptions"),
        ("https://api.example.org/v1/", "https://api.example.org/v1/audio/transcriptions"),
        ("https://api.example.org", "https://api.example.org/v1/audio/transcriptions"),
        ("https://example.org/speech", "https://example.org/speech/v1/audio/transcriptions"),
    ],
)
def test_where_an_upstream_is_called(base_url: str, expected: str) -> None:
    entry = snapshot_of(HOSTED, engines=[upstream(baseURL=base_url)]).resolve("base")
    assert entry.model.status is ModelStatus.RUNNING
    assert entry.target is not None
    assert entry.url(entry.target.base_urls[0], RouteName.TRANSCRIPTIONS) == expected
    assert not entry.speaks_roundhouse


@pytest.mark.parametrize("dialect", [Dialect.ROUNDHOUSE, Dialect.OPENAI])
def test_an_engine_of_ours_is_asked_before_it_is_sent_a_body_wherever_it_runs(dialect: Dialect) -> None:
    record = replace(HOSTED, effective=HOSTED.effective.model_copy(update={"dialect": dialect}))
    entry = snapshot_of(record, engines=[upstream()]).resolve("base")
    assert (entry.admits_first, entry.speaks_roundhouse) == (dialect is Dialect.ROUNDHOUSE, False)


def test_a_key_is_shown_to_no_other_upstream_than_it_was_read_for() -> None:
    """Not even while the gateway has seen a change of the Engine, and has not read anew what it names."""
    keyed = upstream(apiKeySecretRef={"name": "hosted", "key": "token"})
    moved = upstream(apiKeySecretRef={"name": "hosted", "key": "token"}, baseURL="https://other.example.org")
    at = keyed.namespace, keyed.name
    join = Join(["models"], aliases_enabled=True)
    join.put_engine(at, keyed)
    join.put_variant((HOSTED.namespace, HOSTED.name), HOSTED)
    join.put_access(at, Access(key="sk-1", upstream=keyed.spec.upstream))
    join.renew()
    entry = join.snapshot.resolve("base")
    assert (entry.model.status, entry.access.headers) == (
        ModelStatus.RUNNING,
        {"authorization": "Bearer sk-1"},
    )
    assert "sk-1" not in repr(entry)
    join.put_engine(at, moved)
    join.renew()
    entry = join.snapshot.resolve("base")
    assert (entry.model.status, dict(entry.access.headers)) == (ModelStatus.AVAILABLE, {})
    assert "not been read yet" in entry.access.trouble


def test_pods_see_no_key_of_the_upstream_that_their_engine_has_become() -> None:
    """An Engine was made anew under its name, and the operator has not come to its variants yet."""
    keyed = upstream(apiKeySecretRef={"name": "hosted", "key": "token"})
    at = keyed.namespace, keyed.name
    join = Join(["models"], aliases_enabled=True)
    join.put_engine(at, keyed)
    join.put_variant((VARIANT.namespace, VARIANT.name), VARIANT)
    join.put_slice((VARIANT.namespace, VARIANT.name), slice_with(READY, service=VARIANT.backends[0].name))
    for known in (Access(key="sk-1", upstream=keyed.spec.upstream), None):
        join.put_access(at, known)
        join.renew()
        entry = join.snapshot.resolve("base")
        assert entry.target is not None
        assert entry.target.base_urls == ("http://10.0.0.1:8000",)
        assert (dict(entry.access.headers), entry.access.trouble) == ({}, "")


def test_an_upstream_whose_operator_says_no_is_not_running() -> None:
    record = replace(HOSTED, available=lost("Unauthorized"))
    assert snapshot_of(record, engines=[upstream()]).resolve("base").model.status is ModelStatus.AVAILABLE


def test_an_upstream_without_its_engine_is_not_called() -> None:
    entry = snapshot_of(HOSTED, engines=()).resolve("base")
    assert entry.model.status is not ModelStatus.RUNNING


def test_which_ids_a_key_may_use_is_looked_up_once() -> None:
    others = [
        replace(VARIANT, name=name, served_name=name, published_names=frozenset({name})) for name in "ba"
    ]
    snapshot = snapshot_of(VARIANT, *others)
    assert list(snapshot.allowed(("*",))) == ["a", "b", "whisper-base"]
    some = snapshot.allowed(("w*", "a"))
    assert list(some) == ["a", "whisper-base"]
    assert snapshot.allowed(("w*", "a")) is some
