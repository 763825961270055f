"""The keyring: what watched Secrets make of it."""

import asyncio
import logging
import time
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from roundhouse_api.keys import Grant, issue, parse
from roundhouse_gateway.exchange import EXCHANGE, Exchange
from roundhouse_gateway.guard import COUNTED, Counted, Guard
from roundhouse_gateway.keyring import SECRETS, Keyring
from roundhouse_gateway.limits import LocalLimits
from roundhouse_gateway.text.lane import no_route
from roundhouse_gateway.upload import Upload


def secret(name: str, data: dict[str, str], kind: str = "roundhouse.dev/api-key") -> dict[str, Any]:
    encoded = {field: b64encode(value.encode()).decode() for field, value in data.items()}
    return {"metadata": {"name": name, "namespace": "keys"}, "type": kind, "data": encoded}


def test_a_key_is_known_from_its_secret_until_that_is_gone() -> None:
    ring, issued = Keyring(), issue(Grant(name="ci"))
    assert not ring.complete
    ring.replace(SECRETS, "keys", [secret("ci", dict(issued.data))])
    assert ring.complete
    found = ring.find(issued.data["id"])
    presented = parse(issued.text)
    assert found
    assert presented
    assert found.matches(presented.secret)
    ring.delete(SECRETS, secret("ci", {}))
    assert ring.find(issued.data["id"]) is None


def test_a_spoilt_secret_opens_nothing_and_is_told_without_its_content(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ring, issued = Keyring(), issue(Grant())
    ring.replace(SECRETS, "keys", [secret("ci", dict(issued.data))])
    ring.apply(SECRETS, secret("ci", {**issued.data, "scopes": "everything"}))
    assert ring.find(issued.data["id"]) is None
    assert "Secret 'ci' is no API key" in caplog.text
    assert issued.data["hash"] not in caplog.text


def test_a_secret_of_another_type_is_no_key(caplog: pytest.LogCaptureFixture) -> None:
    ring, issued = Keyring(), issue(Grant())
    ring.replace(SECRETS, "keys", [secret("tls", dict(issued.data), kind="Opaque")])
    assert len(ring) == 0
    assert not [told for told in caplog.records if told.levelno >= logging.WARNING]


def test_data_that_is_no_base64_is_told(caplog: pytest.LogCaptureFixture) -> None:
    ring = Keyring()
    spoilt = secret("ci", {})
    spoilt["data"] = {"version": "%"}
    ring.apply(SECRETS, spoilt)
    assert "not base64" in caplog.text


def test_of_two_secrets_with_one_id_the_first_by_name_counts(caplog: pytest.LogCaptureFixture) -> None:
    ring, first, second = Keyring(), issue(Grant()), issue(Grant())
    stolen = {**second.data, "id": first.data["id"]}
    ring.replace(SECRETS, "keys", [secret("b", stolen), secret("a", dict(first.data))])
    key, presented = ring.find(first.data["id"]), parse(first.text)
    assert key
    assert presented
    assert key.matches(presented.secret)
    assert "Secret 'b' repeats" in caplog.text


def no_upload(receive: Receive) -> Upload:
    raise AssertionError("keys alone are asked for")


async def test_who_holds_a_key_hears_that_it_is_good_no_more() -> None:
    ring, ends, stays = Keyring(), issue(Grant()), issue(Grant(expires_at=datetime.now(UTC) + timedelta(1)))
    ring.replace(SECRETS, "keys", [secret("ends", dict(ends.data)), secret("stays", dict(stays.data))])
    limits = LocalLimits(time.time)
    guard = Guard(no_route, ring, limits, lambda: datetime.now(UTC), no_upload)
    waiting = {
        name: asyncio.create_task(guard.until_revoked(guard.authenticate(issued.text)))
        for name, issued in {"ends": ends, "stays": stays}.items()
    }
    ring.apply(SECRETS, secret("another", dict(issue(Grant()).data)))
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting.values())
    expired = (datetime.now(UTC) + timedelta(seconds=0.01)).isoformat()
    ring.apply(SECRETS, secret("ends", {**ends.data, "expiresAt": expired}))
    await asyncio.wait_for(waiting["ends"], 60)
    assert not waiting["stays"].done()
    rotated = {**issue(Grant()).data, "id": stays.data["id"]}
    ring.apply(SECRETS, secret("stays", rotated))
    await asyncio.wait_for(waiting["stays"], 60)


async def test_a_place_that_is_handed_over_is_not_taken_anew_and_is_given_back_in_any_case() -> None:
    ring, issued, limits = Keyring(), issue(Grant(max_concurrent=1)), LocalLimits(time.time)
    ring.replace(SECRETS, "keys", [secret("one", dict(issued.data))])
    key_id, served = issued.data["id"], list[bool]()

    async def serve(_scope: Scope, _receive: Receive, _send: Send) -> None:
        served.append(limits.begin_now(key_id, 1))

    guard = Guard(serve, ring, limits, lambda: datetime.now(UTC), no_upload)

    async def enter(text: str) -> None:
        assert limits.begin_now(key_id, 1)
        scope = {
            "path": "/v1/models",
            "headers": [(b"authorization", f"Bearer {text}".encode())],
            EXCHANGE: Exchange("GET", "/v1/models", "1"),
            COUNTED: Counted(None, partial(limits.end, key_id)),
        }
        nobody: Any = None
        await guard(scope, nobody, nobody)

    await enter(issued.text)
    assert served == [False], "it has the place still"
    with pytest.raises(AssertionError, match="keys alone"):  # it is refused: the key is good no more
        await enter("nobody's")
    assert limits.begin_now(key_id, 1)
