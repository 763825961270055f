"""Keys for a moment: what a server asks for with its own key and hands to a browser.

A token is random and says nothing; what it stands for is kept until it expires: in the store that gateways
share for the limits of keys, where there is one, so that all of them know it, else in this gateway alone.
What is kept goes by the token's hash, so that reading the store gives nobody a token. A single-use token is
taken out with its first use, in one step, also when two gateways are asked at once; to be refused is no use.
"""

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from roundhouse_gateway.errors import NotReadyError

if TYPE_CHECKING:
    from redis.asyncio import Redis

CLIENT_SECRET: Final = "ek_"  # noqa: S105 - the beginning of each
SINGLE_USE: Final = "sutkn_"
MOST_LOCAL: Final = 10_000
_STORE_PREFIX: Final = "roundhouse:token:"


class Token(msgspec.Struct, frozen=True):
    """`key_id` is empty where no keys are asked for; `session` is what a client secret was made for."""

    key_id: str
    expires: float
    session: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Made:
    text: str
    expires: float


class Tokens(Protocol):
    async def put(self, name: str, token: Token, seconds: int) -> None: ...

    async def get(self, name: str) -> Token | None: ...

    async def take(self, name: str) -> bool:
        """Whether it was there still, and is not now."""
        ...

    async def close(self) -> None: ...


async def make(tokens: Tokens, prefix: str, key_id: str, seconds: int, session: dict[str, Any]) -> Made:
    text = prefix + secrets.token_urlsafe(32)
    expires = time.time() + seconds
    await tokens.put(_name(text), Token(key_id, expires, session), seconds)
    return Made(text, expires)


async def find(tokens: Tokens, text: str) -> Token | None:
    """What the text stands for; None where it is no token of ours, has expired or was used up."""
    if not text.startswith((CLIENT_SECRET, SINGLE_USE)):
        return None
    found = await tokens.get(_name(text))
    return found if found is not None and found.expires > time.time() else None


async def use(tokens: Tokens, text: str) -> bool:
    """Whether a token that was found may still be used. One for a single use is used up."""
    return not text.startswith(SINGLE_USE) or await tokens.take(_name(text))


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class LocalTokens:
    """Of this gateway. The oldest go where there are too many."""

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}

    async def put(self, name: str, token: Token, seconds: int) -> None:
        del seconds
        now = time.time()
        if len(self._tokens) >= MOST_LOCAL:
            self._tokens = {each: kept for each, kept in self._tokens.items() if kept.expires > now}
        while len(self._tokens) >= MOST_LOCAL:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[name] = token

    async def get(self, name: str) -> Token | None:
        return self._tokens.get(name)

    async def take(self, name: str) -> bool:
        return self._tokens.pop(name, None) is not None

    async def close(self) -> None: ...


class SharedTokens:
    """In the store that gateways share. While it does not answer no token is made, and none is good."""

    def __init__(self, store: "Redis") -> None:
        self._store = store

    async def put(self, name: str, token: Token, seconds: int) -> None:
        with _answering():
            await self._store.set(_STORE_PREFIX + name, msgspec.json.encode(token), ex=seconds)

    async def get(self, name: str) -> Token | None:
        with _answering():
            kept = await self._store.get(_STORE_PREFIX + name)
        return None if kept is None else msgspec.json.decode(kept, type=Token)

    async def take(self, name: str) -> bool:
        with _answering():
            return bool(await self._store.delete(_STORE_PREFIX + name))

    async def close(self) -> None:
        await self._store.aclose()


@contextmanager
def _answering() -> Iterator[None]:
    """Raises what a client is told where the store does not."""
    from redis.exceptions import RedisError  # noqa: PLC0415 - megabytes, for some

    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise NotReadyError("The store of tokens does not answer.") from error
