"""Objects of the API server become records, or an error that says what cannot be read."""

import pytest

from roundhouse_api.enums import BackendType, ConditionStatus, Device, SpeedTier
from roundhouse_gateway.records import (
    Backing,
    Endpoint,
    UnreadableError,
    read_engine,
    read_slice,
    read_variant,
)
from tests.conformance.gateway.manifests import Variant, engine, slice_of


def test_a_variant() -> None:
    manifest = Variant(
        "whisper", "org/Whisper", spec={"selection": {"speedTier": "Fast", "priority": 3}, "suspend": True}
    ).manifest()
    record = read_variant(manifest)
    assert (record.namespace, record.name, record.served_name) == ("models", "whisper", "org/Whisper")
    assert record.backends == (Backing("whisper", BackendType.SERVICE, "engine-whisper"),)
    assert (record.speed_tier, record.priority, record.device) == (SpeedTier.FAST, 3, Device.CPU)
    assert record.available.status is ConditionStatus.TRUE
    assert not record.wanted


def test_a_variant_that_the_operator_has_not_seen_publishes_nothing() -> None:
    manifest = Variant("whisper").manifest()
    del manifest["status"]
    record = read_variant(manifest)
    assert record.published_names == frozenset()
    assert record.ready.status is ConditionStatus.UNKNOWN


def test_what_a_newer_version_adds_does_no_harm() -> None:
    manifest = Variant("whisper").manifest()
    manifest["spec"] |= {"source": {"type": "Telepathy"}, "future": 1}
    manifest["status"]["future"] = {"x": 1}
    manifest["status"]["effective"]["stage"] = "Telepathy"
    assert read_variant(manifest).effective.stage == "Telepathy"


def test_what_cannot_be_read_is_named() -> None:
    manifest = engine()
    manifest["spec"]["interfaces"] = "Batch"
    with pytest.raises(UnreadableError, match="cannot be read: interfaces: "):
        read_engine(manifest)


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ({}, True),
        ({"ready": True, "serving": True, "terminating": False}, True),
        ({"ready": False, "serving": False}, False),
        ({"ready": False, "serving": True, "terminating": True}, False),
        ({"ready": True, "serving": True, "terminating": True}, False),
    ],
)
def test_the_conditions_of_an_endpoint(conditions: dict[str, bool], ready: bool) -> None:
    manifest = slice_of("whisper", 8000)
    manifest["endpoints"][0]["conditions"] = conditions
    record = read_slice(manifest)
    assert record.service == "whisper"
    assert record.endpoints == (Endpoint("127.0.0.1", 8000, ready),)


@pytest.mark.parametrize("missing", ["ports", "endpoints"])
def test_a_slice_without_ports_or_endpoints(missing: str) -> None:
    manifest = slice_of("whisper", 8000)
    manifest[missing] = None
    assert read_slice(manifest).endpoints == ()
