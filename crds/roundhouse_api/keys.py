"""API keys: what a client sends, what a Secret holds of it, and how the one is checked against the other.

A key reads `rh_<id>_<secret>`. The Secret, of type `roundhouse.dev/api-key`, holds the id in the clear and
of the secret only a salted SHA-256: that suffices, because the secret is random and long, not a password. Who
reads Secrets, and what a key may do beyond its scopes and models, is left to the gateway.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import translate
from functools import lru_cache
from typing import Final

FORMAT: Final = "1"
PREFIX: Final = "rh_"
_KEY: Final = re.compile(r"rh_([a-z0-9]{8,32})_([A-Za-z0-9]{22,128})")
_ID: Final = re.compile(r"[a-z0-9]{8,32}")
_HEX: Final = re.compile(r"(?:[0-9a-f]{2}){8,64}")
_NAME_LENGTH: Final = 100
_LIST_LENGTH: Final = 64
_LARGEST_LIMIT: Final = 10**9
_ID_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH: Final = 12
_SECRET_BYTES: Final = 24
FIELDS: Final = frozenset(
    {
        *("version", "id", "salt", "hash", "name", "scopes", "models"),
        *("requestsPerMinute", "maxConcurrent", "expiresAt"),
    }
)


_NOT_EMPTY: Final = frozenset({"scopes", "models", "requestsPerMinute", "maxConcurrent", "expiresAt"})
"""What bounds a key: one that was emptied, or lost its value in a template, must not open all."""


class Scope(StrEnum):
    """What a key may be used for."""

    MODELS = "models"
    """Reading what models and engines there are."""
    TRANSCRIBE = "transcribe"
    EMBED = "embed"
    CHAT = "chat"
    RERANK = "rerank"
    MUSIC = "music"
    USAGE = "usage"
    """Reading who used what, and the gateway's metrics."""


class KeyFormatError(Exception):
    """A Secret is no API key: which entry, what is wrong with it, and what it should be."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A key as a client sent it."""

    id: str
    secret: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key may do. A limit of None is no limit."""

    name: str = ""
    """For people: whose key it is."""
    scopes: frozenset[Scope] = frozenset(Scope)
    models: tuple[str, ...] = ("*",)
    """Public ids, or patterns with `*`."""
    requests_per_minute: int | None = None
    max_concurrent: int | None = None
    expires_at: datetime | None = None

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def allows_model(self, model_id: str) -> bool:
        return _matcher(self.models).match(model_id) is not None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its Secret describes it."""

    id: str
    salt: bytes
    digest: bytes
    grant: Grant = Grant()

    def matches(self, secret: str) -> bool:
        return hmac.compare_digest(self.digest, _digest(self.salt, secret))


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key: the text that its owner gets once, and what a Secret is to hold."""

    text: str
    data: Mapping[str, str]


def parse(text: str) -> Presented | None:
    """What a client sent, or None where it cannot be a key of ours."""
    found = _KEY.fullmatch(text)
    return Presented(found[1], found[2]) if found else None


def issue(grant: Grant) -> Issued:
    """A key of 192 random bits. Raises KeyFormatError for what `read` would refuse."""
    identity = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    secret, salt = secrets.token_hex(_SECRET_BYTES), secrets.token_bytes(16)
    expires = grant.expires_at
    data = {
        "version": FORMAT,
        "id": identity,
        "salt": salt.hex(),
        "hash": _digest(salt, secret).hex(),
        "name": grant.name or None,
        "scopes": ",".join(sorted(grant.scopes)) if grant.scopes != frozenset(Scope) else None,
        "models": ",".join(grant.models) if grant.models != ("*",) else None,
        "requestsPerMinute": _written(grant.requests_per_minute),
        "maxConcurrent": _written(grant.max_concurrent),
        "expiresAt": expires.astimezone(UTC).isoformat(timespec="seconds") if expires else None,
    }
    said = {field: value for field, value in data.items() if value is not None}
    read({field: value.encode() for field, value in said.items()})
    return Issued(f"{PREFIX}{identity}_{secret}", said)


def read(data: Mapping[str, bytes]) -> ApiKey:
    """The key that a Secret's decoded data describes; raises KeyFormatError."""
    if unknown := sorted(data.keys() - FIELDS):
        raise KeyFormatError(
            f"`{unknown[0]}` is no entry of an API key; there are {', '.join(sorted(FIELDS))}"
        )
    if empty := sorted(field for field in data.keys() & _NOT_EMPTY if not _items(data, field)):
        raise KeyFormatError(f"`{empty[0]}` is empty: leave it out to grant all, or name what is granted")
    if (version := _text(data, "version")) != FORMAT:
        raise KeyFormatError(f"`version` is {version!r}: this gateway reads {FORMAT!r}")
    return ApiKey(
        id=_matching(data, "id", _ID, "8 to 32 small letters and digits"),
        salt=bytes.fromhex(_matching(data, "salt", _HEX, "8 bytes or more in hexadecimal")),
        digest=_sha256(data),
        grant=Grant(
            name=_text(data, "name")[:_NAME_LENGTH],
            scopes=_scopes(data),
            models=_list(data, "models") or ("*",),
            requests_per_minute=_limit(data, "requestsPerMinute"),
            max_concurrent=_limit(data, "maxConcurrent"),
            expires_at=_time(data, "expiresAt"),
        ),
    )


@lru_cache(1024)
def _matcher(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """All of them in one, because lists ask it of thousands of ids."""
    return re.compile("|".join(translate(_only_stars(pattern)) for pattern in patterns))


def _only_stars(pattern: str) -> str:
    """Ids may hold the other characters that such patterns know."""
    return pattern.replace("[", "[[]").replace("?", "[?]")


def _written(limit: int | None) -> str | None:
    return None if limit is None else str(limit)


def _digest(salt: bytes, secret: str) -> bytes:
    return hashlib.sha256(salt + secret.encode()).digest()


def _text(data: Mapping[str, bytes], field: str) -> str:
    try:
        return data.get(field, b"").decode().strip()
    except UnicodeDecodeError:
        raise KeyFormatError(f"`{field}` is not UTF-8") from None


def _matching(data: Mapping[str, bytes], field: str, pattern: re.Pattern[str], wanted: str) -> str:
    text = _text(data, field)
    if not pattern.fullmatch(text):
        raise KeyFormatError(f"`{field}` must be {wanted}")
    return text


def _sha256(data: Mapping[str, bytes]) -> bytes:
    digest = bytes.fromhex(_matching(data, "hash", _HEX, "the SHA-256 of salt and secret in hexadecimal"))
    if len(digest) != hashlib.sha256().digest_size:
        raise KeyFormatError("`hash` must be a SHA-256: 64 hexadecimal digits")
    return digest


def _items(data: Mapping[str, bytes], field: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item.strip() for item in _text(data, field).split(",") if item.strip()))


def _list(data: Mapping[str, bytes], field: str) -> tuple[str, ...]:
    items = _items(data, field)
    if len(items) > _LIST_LENGTH:
        raise KeyFormatError(f"`{field}` has {len(items)} items, and may have {_LIST_LENGTH}")
    return items


def _scopes(data: Mapping[str, bytes]) -> frozenset[Scope]:
    found = _list(data, "scopes")
    if unknown := sorted(set(found) - set(Scope)):
        raise KeyFormatError(f"`scopes` names {unknown[0]!r}; there are {', '.join(Scope)}")
    return frozenset(map(Scope, found)) or frozenset(Scope)


def _limit(data: Mapping[str, bytes], field: str) -> int | None:
    text = _text(data, field)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) <= _LARGEST_LIMIT):
        raise KeyFormatError(
            f"`{field}` is {text[:32]!r}, and must be a whole number from 1 to {_LARGEST_LIMIT}"
        )
    return int(text)


def _time(data: Mapping[str, bytes], field: str) -> datetime | None:
    text = _text(data, field)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise KeyFormatError(f"`{field}` is {text[:32]!r}, and must be a time such as 2030-01-31T00:00:00Z")
    return moment
