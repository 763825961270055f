"""API keys: issued, written to a Secret, read from it, and checked."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_api.keys import Grant, KeyFormatError, Scope, issue, parse, read

LATER = datetime(2040, 1, 2, 3, 4, 5, tzinfo=UTC)


def stored(**fields: str) -> dict[str, bytes]:
    return {name: value.encode() for name, value in {**issue(Grant()).data, **fields}.items()}


def test_an_issued_key_is_read_back_and_matches_itself_alone() -> None:
    issued, other = issue(Grant(name="ci")), issue(Grant())
    presented, stranger = parse(issued.text), parse(other.text)
    assert presented
    assert stranger
    key = read({name: value.encode() for name, value in issued.data.items()})
    assert (key.id, key.grant.name) == (presented.id, "ci")
    assert key.matches(presented.secret)
    assert not key.matches(stranger.secret)
    assert not key.matches("")


def test_the_secret_is_not_in_what_is_stored() -> None:
    issued = issue(Grant())
    presented = parse(issued.text)
    assert presented
    assert all(presented.secret not in value for value in issued.data.values())


def test_what_a_key_may_do_survives_its_secret() -> None:
    grant = Grant(
        scopes=frozenset({Scope.CHAT, Scope.MODELS}),
        models=("whisper-*", "Qwen/Qwen3-4B"),
        requests_per_minute=60,
        max_concurrent=4,
        expires_at=LATER,
    )
    assert read({name: value.encode() for name, value in issue(grant).data.items()}).grant == grant
    assert grant.allows_model("whisper-large-v3")
    assert grant.allows_model("Qwen/Qwen3-4B")
    assert not grant.allows_model("qwen/qwen3-4b")
    assert grant.expired(LATER)
    assert not grant.expired(LATER - timedelta(seconds=1))


def test_a_star_alone_stands_for_anything() -> None:
    grant = Grant(models=("a[b]?", "x/*"))
    assert grant.allows_model("a[b]?")
    assert grant.allows_model("x/y[z]")
    assert not grant.allows_model("ab?")
    assert not grant.allows_model("a[b]c")


def test_a_key_that_says_nothing_may_do_all() -> None:
    key = read(stored())
    assert key.grant == Grant()
    assert key.grant.scopes == frozenset(Scope)
    assert key.grant.allows_model("anything/at:all")
    assert not key.grant.expired(LATER)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("version", "2", "`version` is '2'"),
        ("version", "", "`version` is ''"),
        ("id", "UPPER123", "`id` must be"),
        ("salt", "abc", "`salt` must be"),
        ("hash", "00" * 20, "64 hexadecimal digits"),
        ("hash", "sha256:00", "`hash` must be"),
        ("scopes", "chat,everything", "names 'everything'"),
        ("scopes", " , ", "`scopes` is empty"),
        ("models", "", "`models` is empty"),
        ("requestsPerMinute", "", "`requestsPerMinute` is empty"),
        ("maxConcurrent", " ", "`maxConcurrent` is empty"),
        ("expiresAt", "", "`expiresAt` is empty"),
        ("models", ",".join(f"m{n}" for n in range(65)), "65 items"),
        ("requestsPerMinute", "0", "`requestsPerMinute` is '0'"),
        ("requestsPerMinute", "9" * 30, "from 1 to"),
        ("maxConcurrent", "-1", "`maxConcurrent` is '-1'"),
        ("maxConcurrent", "٣", "whole number"),
        ("expiresAt", "tomorrow", "`expiresAt` is 'tomorrow'"),
        ("expiresAt", "2030-01-01T00:00:00", "must be a time such as"),
        ("secret", "s3cr3t", "`secret` is no entry"),
    ],
)
def test_a_wrong_entry_is_named(field: str, value: str, told: str) -> None:
    with pytest.raises(KeyFormatError) as error:
        read(stored(**{field: value}))
    assert told in str(error.value)


def test_an_entry_that_is_no_text_is_named() -> None:
    with pytest.raises(KeyFormatError, match="`scopes` is not UTF-8"):
        read({**stored(), "scopes": b"\xff"})


def test_a_key_that_could_not_be_read_is_not_issued() -> None:
    with pytest.raises(KeyFormatError, match="requestsPerMinute"):
        issue(Grant(requests_per_minute=0))
    for nothing in (Grant(scopes=frozenset()), Grant(models=())):
        with pytest.raises(KeyFormatError, match="is empty"):
            issue(nothing)


@given(st.text())
def test_whatever_a_client_sends_is_a_key_or_nothing(text: str) -> None:
    presented = parse(text)
    assert presented is None or text == f"rh_{presented.id}_{presented.secret}"


@given(
    st.dictionaries(st.sampled_from(["version", "id", "salt", "hash", "scopes", "expiresAt"]), st.binary())
)
def test_whatever_a_secret_holds_is_a_key_or_a_named_problem(data: dict[str, bytes]) -> None:
    try:
        key = read(data)
    except KeyFormatError as error:
        told = str(error)
    else:
        told = f"`{key.id}`"
    assert "`" in told
