"""Limits that several gateways keep together, in a Valkey or Redis that they share.

A gateway leases a part of what a key may do and spends it without asking again, so a round trip is made once
for many requests. All together never give out more than the limit; what one has leased and not yet spent is
missing to the others, for a minute at most. Time is the store's. While the store is away each gateway counts
for itself, or, where that is wished, refuses what has a limit.
"""

import asyncio
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError
from typing_extensions import override

from roundhouse_gateway.guard_errors import LimitsUnavailableError
from roundhouse_gateway.limits import WINDOW_SECONDS, KeyLimits, LocalLimits, Standing

log = logging.getLogger("roundhouse.gateway.limits")

PREFIX: Final = "roundhouse:limits:"
STORE_SECONDS: Final = 0.5
"""Longest wait for the store before counting goes on without it."""
ABSENT_SECONDS: Final = 2.0
"""How long the store is not asked again after it failed."""
RENEW_SECONDS: Final = 3.0
PLACE_SECONDS: Final = 12
"""How long places of a gateway that vanished stay taken."""
PARTS: Final = 10
LARGEST_LEASE: Final = 100

# The window is that of the store's clock: gateways' clocks may differ. How long it lasts is told in whole
# milliseconds that are over for sure when it is.
_TAKE = """
local now = redis.call('TIME')
local window = math.floor(now[1] / ARGV[3])
local kept = redis.call('HMGET', KEYS[1], 'window', 'used')
local used = tonumber(kept[1]) == window and tonumber(kept[2]) or 0
local granted = math.max(0, math.min(tonumber(ARGV[1]), tonumber(ARGV[2]) - used))
if granted > 0 then
  redis.call('HSET', KEYS[1], 'window', window, 'used', used + granted)
  redis.call('EXPIRE', KEYS[1], ARGV[3] * 2)
end
return {granted, used + granted, math.floor(((window + 1) * ARGV[3] - now[1]) * 1000 - now[2] / 1000)}
"""
# Each gateway has a field: how many places it holds, and until when. It asks for a number in all, and gets
# what the others leave; what it has running already is written down in any case.
_HOLD = """
local now = tonumber(redis.call('TIME')[1])
local others = 0
local held = redis.call('HGETALL', KEYS[1])
for place = 1, #held, 2 do
  local count, expires = string.match(held[place + 1], '(%d+) (%d+)')
  if tonumber(expires) <= now then
    redis.call('HDEL', KEYS[1], held[place])
  elseif held[place] ~= ARGV[1] then
    others = others + tonumber(count)
  end
end
local granted = math.max(tonumber(ARGV[5]), math.min(tonumber(ARGV[2]), tonumber(ARGV[3]) - others))
if granted > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], granted .. ' ' .. (now + ARGV[4]))
  redis.call('EXPIRE', KEYS[1], ARGV[4] * 2)
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return granted
"""


@dataclass(slots=True)
class _Lease:
    """Requests that this gateway may let through until the window ends; `remaining` is of all gateways."""

    tokens: int
    remaining: int
    until: float


@dataclass(slots=True)
class _Places:
    """Places of a key: those that this gateway holds in the store, and those that are in use."""

    at_once: int
    held: int = 0
    running: int = 0


def open_store(url: str) -> Redis:
    """Connects on first use, and again after each loss."""
    return Redis.from_url(url, socket_connect_timeout=STORE_SECONDS, socket_timeout=STORE_SECONDS, protocol=2)


class SharedLimits(KeyLimits):
    """Of all gateways that are given the same store. `run` must be running.

    `closed`: nothing is counted without the store, and `LimitsUnavailableError` raised instead.
    """

    def __init__(
        self, store: Redis, *, closed: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._closed = closed
        self._clock = clock
        self._identity = secrets.token_hex(8)
        self._take = store.register_script(_TAKE)
        self._hold = store.register_script(_HOLD)
        self._alone = LocalLimits(time.time)
        self._leases: dict[str, _Lease] = {}
        self._places: dict[str, _Places] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._absent_until = 0.0

    @property
    @override
    def away(self) -> bool:
        return self._absent_until > 0

    @override
    async def take(self, key_id: str, per_minute: int) -> tuple[bool, Standing]:
        found = self._spend(key_id, per_minute)
        if found is None:
            async with self._locks[key_id]:
                found = self._spend(key_id, per_minute)
                # The minute may have turned while the answer was on its way: what it leased is nothing then.
                while found is None and await self._lease(key_id, per_minute):
                    found = self._spend(key_id, per_minute)
        return found or await self._without_store().take(key_id, per_minute)

    @override
    def take_now(self, key_id: str, per_minute: int) -> tuple[bool, Standing] | None:
        return self._spend(key_id, per_minute)

    @override
    async def standing(self, key_id: str, per_minute: int) -> Standing:
        """By what is leased, else as the store has it."""
        async with self._locks[key_id]:
            lease = self._current(key_id)
            if lease is None and await self._lease(key_id, per_minute, wanted=0):
                lease = self._leases[key_id]
        if lease is None:
            return await self._without_store().standing(key_id, per_minute)
        return self._standing(lease, per_minute)

    @override
    async def begin(self, key_id: str, at_once: int) -> bool:
        places = self._places.setdefault(key_id, _Places(at_once))
        places.at_once = at_once
        if places.running >= places.held and not await self._more(key_id, places):
            self._without_store()
            if places.running >= at_once:
                return False
            places.running += 1  # the store hears of it when it is back
            return True
        if places.running >= places.held:
            return False
        places.running += 1
        return True

    @override
    def begin_now(self, key_id: str, at_once: int) -> bool | None:
        places = self._places.get(key_id)
        if places is None or places.running >= places.held:
            return None
        places.at_once = at_once
        places.running += 1
        return True

    @override
    def end(self, key_id: str) -> None:
        if (places := self._places.get(key_id)) and places.running:
            places.running -= 1

    async def run(self) -> None:
        """Renews the places that are in use and gives back those that are not, until it is cancelled."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            now = self._clock()
            self._leases = {name: lease for name, lease in self._leases.items() if lease.until > now}
            for name, places in list(self._places.items()):
                await self._renew(name, places)
            self._forget_idle()

    async def close(self) -> None:
        """Gives back all places, which nobody needs any more, and leaves the store."""
        for name, places in list(self._places.items()):
            places.running = 0
            await self._renew(name, places)
        await self._store.aclose()

    def _without_store(self) -> LocalLimits:
        if self._closed:
            raise LimitsUnavailableError
        return self._alone

    def _spend(self, key_id: str, per_minute: int) -> tuple[bool, Standing] | None:
        """By what is leased; None where the store has to be asked."""
        lease = self._current(key_id)
        if lease is None:
            return None
        if lease.tokens:
            lease.tokens -= 1
            return True, self._standing(lease, per_minute)
        return (False, self._standing(lease, per_minute)) if lease.remaining <= 0 else None

    def _current(self, key_id: str) -> _Lease | None:
        lease = self._leases.get(key_id)
        return lease if lease is not None and lease.until > self._clock() else None

    def _standing(self, lease: _Lease, per_minute: int) -> Standing:
        reset = max(1, ceil(lease.until - self._clock()))
        return Standing(per_minute, lease.remaining + lease.tokens, reset)

    async def _lease(self, key_id: str, per_minute: int, *, wanted: int | None = None) -> bool:
        if wanted is None:
            wanted = max(1, min(per_minute // PARTS, LARGEST_LEASE))
        asked_at = self._clock()  # before the store looked at its own, so that no lease outlives its minute
        answer = await self._ask(self._take, f"{PREFIX}rate:{key_id}", wanted, per_minute, WINDOW_SECONDS)
        if answer is None:
            return False
        granted, used, left_ms = (int(each) for each in answer)
        self._leases[key_id] = _Lease(granted, max(0, per_minute - used), asked_at + left_ms / 1000)
        return True

    async def _more(self, key_id: str, places: _Places) -> bool:
        """Asks for places; False where the store does not answer."""
        async with self._locks[key_id]:
            if places.running < places.held:
                return True
            part = max(1, places.at_once // PARTS)
            granted = await self._hold_places(key_id, places, places.running + part)
            if granted is None:
                return False
            places.held = max(granted, places.running)
            return True

    async def _renew(self, key_id: str, places: _Places) -> None:
        async with self._locks[key_id]:
            # Who begins meanwhile has to ask for itself: of a spare place taken now the store would not know.
            places.held = places.running
            granted = await self._hold_places(key_id, places, places.running)
            if granted is not None:
                places.held = max(granted, places.running)

    async def _hold_places(self, key_id: str, places: _Places, wanted: int) -> int | None:
        name, limit = f"{PREFIX}places:{key_id}", places.at_once
        arguments = (self._identity, wanted, limit, PLACE_SECONDS, places.running)
        answer = await self._ask(self._hold, name, *arguments)
        return None if answer is None else int(answer)

    def _forget_idle(self) -> None:
        asking = {name for name, lock in self._locks.items() if lock.locked()}
        self._places = {
            name: one for name, one in self._places.items() if one.running or one.held or name in asking
        }
        busy = {*self._places, *self._leases, *asking}
        for name in [name for name in self._locks if name not in busy]:
            del self._locks[name]

    async def _ask(self, script: Any, key: str, *arguments: str | int) -> Any:  # noqa: ANN401  # as Lua has it
        """What the script returns; None while the store is away."""
        if self._clock() < self._absent_until:
            return None
        try:
            async with asyncio.timeout(STORE_SECONDS):
                answer = await script(keys=[key], args=list(arguments))
        except (RedisError, OSError, TimeoutError) as error:
            if not self._absent_until:
                without = "refusing keys with limits" if self._closed else "counting without it"
                log.warning("the store of limits does not answer (%s): %s", type(error).__name__, without)
            self._absent_until = self._clock() + ABSENT_SECONDS
            return None
        if self._absent_until:
            log.info("the store of limits answers again")
            self._absent_until = 0.0
        return answer
