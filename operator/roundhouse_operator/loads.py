"""What all gateways together have in hand of each variant, and since when that is known.

Filled by `gateways`, asked by `scaler`; nothing here waits. A gateway that is silent for too long makes the
whole unknown, and what it told last stands until it is heard again or gone: silence is never a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from roundhouse_operator.core.kinds import Key
from roundhouse_operator.core.scaling import NO_LOAD, Load

SILENT_SECONDS: Final = 3.0
"""A gateway beats each second."""


@dataclass(slots=True)
class _Gateway:
    """`account` gathers what it tells at first, which replaces all that was known of it once it is whole."""

    expected: bool
    heard_at: float | None = None
    counts: dict[Key, Load] = field(default_factory=dict)
    account: dict[Key, Load] | None = None


class Loads:
    """`changed` is told of each variant whose sum is another."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        self._changed = changed
        self._gateways: dict[str, _Gateway] = {}
        self._sums: dict[Key, Load] = {}
        self._gap_at = 0.0

    def of(self, key: Key) -> Load:
        return self._sums.get(key, NO_LOAD)

    def known_since(self, now: float) -> float | None:
        """None while a gateway is silent, or none is there: then nobody can say that nothing is asked for."""
        heard = [one.heard_at for one in self._gateways.values() if one.heard_at is not None or one.expected]
        if not heard or any(at is None or now - at > SILENT_SECONDS for at in heard):
            return None
        return self._gap_at

    def silent_seconds(self, now: float) -> float:
        """Of the gateway that was not heard for longest."""
        heard = [one.heard_at for one in self._gateways.values() if one.heard_at is not None]
        return max((now - at for at in heard), default=0.0)

    @property
    def heard(self) -> int:
        """Gateways that have told everything at least once."""
        return sum(one.heard_at is not None for one in self._gateways.values())

    def expect(self, gateway: str, *, ready: bool) -> None:
        """A gateway that is there. One that takes no requests yet is waited for only once it was heard."""
        self._gateways.setdefault(gateway, _Gateway(ready)).expected = ready

    def forget(self, gateway: str) -> None:
        """It is gone, and so is all that it had in hand."""
        gone = self._gateways.pop(gateway, None)
        if gone:
            self._replace(gone, {})

    def begin(self, gateway: str) -> None:
        """It tells everything anew."""
        if one := self._gateways.get(gateway):
            one.account = {}

    def tell(self, gateway: str, key: Key, load: Load, now: float) -> None:
        one = self._gateways.get(gateway)
        if one is None:
            return
        if one.account is not None:
            one.account[key] = load
            return
        self._set(one, key, load)
        self._hear(one, now)

    def beat(self, gateway: str, now: float) -> None:
        """It lives; and the first beat says that its account is whole."""
        one = self._gateways.get(gateway)
        if one is None:
            return
        if one.account is not None:
            account, one.account = one.account, None
            self._replace(one, account)
        self._hear(one, now)

    def _hear(self, one: _Gateway, now: float) -> None:
        if one.heard_at is None or now - one.heard_at > SILENT_SECONDS:
            self._gap_at = now
        one.heard_at = now

    def _replace(self, one: _Gateway, account: dict[Key, Load]) -> None:
        for key in _both(one.counts, account):
            self._set(one, key, account.get(key, NO_LOAD))

    def _set(self, one: _Gateway, key: Key, load: Load) -> None:
        before, total = one.counts.get(key, NO_LOAD), self.of(key)
        if load == before:
            return
        _put(one.counts, key, load)
        after = Load(
            in_flight=total.in_flight - before.in_flight + load.in_flight,
            held=total.held - before.held + load.held,
            streams=total.streams - before.streams + load.streams,
        )
        _put(self._sums, key, after)
        self._changed(key)


def _put(counts: dict[Key, Load], key: Key, load: Load) -> None:
    if load == NO_LOAD:
        counts.pop(key, None)
    else:
        counts[key] = load


def _both(one: Iterable[Key], other: Iterable[Key]) -> set[Key]:
    return {*one, *other}
