"""Sets by key, of which none is kept once it is empty: so what comes and goes leaves nothing behind."""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)
Member = TypeVar("Member", bound=Hashable)


class Groups(Generic[Name, Member]):
    def __init__(self) -> None:
        self._groups: dict[Name, set[Member]] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, name: Name) -> AbstractSet[Member]:
        """To be read at once, not to be kept."""
        return self._groups.get(name, frozenset())

    def add(self, name: Name, member: Member) -> None:
        self._groups.setdefault(name, set()).add(member)

    def discard(self, name: Name, member: Member) -> None:
        group = self._groups.get(name)
        if group:
            group.discard(member)
            if not group:
                del self._groups[name]
