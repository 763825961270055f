"""Who may ask for what: API keys, their scopes and their limits are checked before a body is read.

Whether a key may use a model is known only once the model is chosen; `choice` asks the grant for that.
Without a namespace for keys everything is open, which the start says loudly; with one, a request without a
good key is refused, also while there is none.
"""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from roundhouse_api.keys import ApiKey, Presented, parse
from roundhouse_api.keys import Scope as KeyScope
from roundhouse_gateway.errors import GatewayError, Headers, NotReadyError
from roundhouse_gateway.exchange import EXCHANGE, Exchange
from roundhouse_gateway.guard_errors import LimitsUnavailableError
from roundhouse_gateway.key_errors import (
    ConcurrencyLimitError,
    InvalidKeyError,
    MissingKeyError,
    RateLimitError,
    ScopeError,
)
from roundhouse_gateway.keyring import Keyring
from roundhouse_gateway.limits import KeyLimits, Standing
from roundhouse_gateway.refusal import refuse
from roundhouse_gateway.upload import Upload

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""Asked by probes and by tools that only want to know what there is to ask."""
SCOPES: Final = (
    ("/v1/models", KeyScope.MODELS),
    ("/v1/engines", KeyScope.MODELS),
    ("/v1/select", KeyScope.MODELS),
    ("/v1/audio/", KeyScope.TRANSCRIBE),
    ("/v1/speech-to-text", KeyScope.TRANSCRIBE),
    ("/v1/realtime", KeyScope.TRANSCRIBE),
    ("/v1/single-use-token/", KeyScope.TRANSCRIBE),
    ("/v1/chat/", KeyScope.CHAT),
    ("/v1/completions", KeyScope.CHAT),
    ("/v1/embeddings", KeyScope.EMBED),
    ("/v1/rerank", KeyScope.RERANK),
    ("/v2/rerank", KeyScope.RERANK),
    ("/metrics", KeyScope.USAGE),
)
"""By the beginning of the path. A path of no scope leads nowhere yet."""
COUNTED: Final = "roundhouse.counted"
"""Where a scope has what was `Counted` of its request before it came here."""
_BEARER: Final = "bearer "
_NOBODY: Final = ApiKey(id="", salt=bytes(16), digest=bytes(32))


@dataclass(frozen=True, slots=True)
class Counted:
    """Of the limits of a key: where that stood then, and what gives back the place that the request has.

    It is handed over: given back and taken anew, another request could be in it by then.
    """

    standing: Standing | None
    give_back: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Guard:
    """Around the application. `now` is timezone-aware."""

    app: ASGIApp
    keyring: Keyring
    limits: KeyLimits
    now: Callable[[], datetime]
    make_upload: Callable[[Receive], Upload] = field(repr=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        exchange: Exchange = scope[EXCHANGE]
        with ExitStack() as places:
            counted: Counted | None = scope.get(COUNTED)
            if counted and counted.give_back:
                places.callback(counted.give_back)
            try:
                await self.admit(self.authenticate(presented(scope["headers"])), scope, exchange, places)
            except GatewayError as error:
                await refuse(error, self.make_upload(receive), exchange, send)
                return
            await self.app(scope, receive, send)

    async def admit(self, key: ApiKey, scope: Scope, exchange: Exchange, places: ExitStack) -> None:
        """Counts the request and takes its place, given back by `places`; raises what the client is told."""
        exchange.key_id, exchange.grant = key.id, key.grant
        counted: Counted | None = scope.get(COUNTED)
        try:
            await self._within(scope, key, places, has_place=bool(counted and counted.give_back))
            allowed, standing = (True, counted.standing) if counted else await self._count(key)
        except LimitsUnavailableError:
            raise
        except GatewayError:
            exchange.standing = await self._standing(key)
            raise
        exchange.standing = standing
        if standing and not allowed:
            raise RateLimitError(standing.limit, standing.reset_seconds)

    async def _within(self, scope: Scope, key: ApiKey, places: ExitStack, *, has_place: bool) -> None:
        """What is refused here is not counted."""
        needed = scope_of(scope["path"])
        if needed is not None and needed not in key.grant.scopes:
            raise ScopeError(needed)
        at_once = key.grant.max_concurrent
        if at_once is not None and not has_place:
            if not await self.limits.begin(key.id, at_once):
                raise ConcurrencyLimitError(at_once)
            places.callback(self.limits.end, key.id)

    async def _count(self, key: ApiKey) -> tuple[bool, Standing | None]:
        per_minute = key.grant.requests_per_minute
        return (True, None) if per_minute is None else await self.limits.take(key.id, per_minute)

    async def _standing(self, key: ApiKey) -> Standing | None:
        per_minute = key.grant.requests_per_minute
        return None if per_minute is None else await self.limits.standing(key.id, per_minute)

    def is_good(self, key: ApiKey) -> bool:
        """Whether a key that was good is so still, and as it was."""
        expires = key.grant.expires_at
        return self.keyring.find(key.id) is key and (expires is None or not key.grant.expired(self.now()))

    def key_of(self, key_id: str) -> ApiKey | None:
        """The key whose token was shown; None where it is gone or has expired since."""
        key = self.keyring.find(key_id)
        return None if key is None or key.grant.expired(self.now()) else key

    async def until_revoked(self, key: ApiKey) -> None:
        """Returns once a key that was good is gone, has expired, or goes with another secret."""
        while (found := self.key_of(key.id)) is not None and found.digest == key.digest:
            expires = found.grant.expires_at
            with suppress(TimeoutError):
                async with asyncio.timeout((expires - self.now()).total_seconds() if expires else None):
                    await self.keyring.changed()

    def authenticate(self, text: str) -> ApiKey:
        """The key of that text; raises what the client is told where it is none that is good."""
        if not self.keyring.complete:
            raise NotReadyError("The gateway has not read its API keys yet.")
        if not text:
            raise MissingKeyError
        sent = parse(text)
        key = self.keyring.find(sent.id) if sent else None
        # What nobody has is compared too: how long it takes must not tell which ids there are.
        good = sent is not None and _good(key or _NOBODY, sent)
        if key is None or not good:
            raise InvalidKeyError(text)
        if key.grant.expired(self.now()):
            raise InvalidKeyError(text, expired=True)
        return key


def presented(headers: Headers) -> str:
    """The key that the request carries: as OpenAI's and Cohere's clients send it, or as ElevenLabs' do."""
    found = dict(headers)
    bearer = found.get(b"authorization", b"").decode("latin-1").strip()
    if bearer[: len(_BEARER)].lower() == _BEARER:
        return bearer[len(_BEARER) :].strip()
    return found.get(b"xi-api-key", b"").decode("latin-1").strip()


def scope_of(path: str) -> KeyScope | None:
    return next((needed for start, needed in SCOPES if path.startswith(start)), None)


def _good(key: ApiKey, sent: Presented) -> bool:
    return key.matches(sent.secret)
