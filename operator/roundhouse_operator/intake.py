"""The door through which all news of the cluster comes: an object that cannot be read concerns no other.

Whoever may write one object of a namespace could else end the operator of all of them, and each successor at
its start. What was last known of such an object stands; the log says which one it is, once.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from roundhouse_operator.cluster import Change
from roundhouse_operator.core.kinds import Key, Kind
from roundhouse_operator.incidents import incident_of

logger = logging.getLogger(__name__)

REMEMBERED: Final = 1000
"""Objects of which the log has told; of more the oldest may be told again."""


@dataclass(slots=True)
class Intake:
    """`count` is called with the kind of each object that could not be read, whenever it was reported."""

    count: Callable[[str], None] = lambda _kind: None
    _told: OrderedDict[Key, str] = field(default_factory=OrderedDict)

    def take(self, on_change: Callable[[Kind, Change], object], kind: Kind, change: Change) -> None:
        """Raises nothing, whatever the object holds."""
        metadata = change.manifest["metadata"]
        key = Key(kind, metadata.get("namespace", ""), metadata["name"])
        try:
            on_change(kind, change)
        except Exception as error:
            self.count(kind.name)
            number = incident_of(error).number
            level = logging.ERROR if self._is_news(key, number) else logging.DEBUG
            text = "%s cannot be read and is taken for what it was before: incident %s"
            logger.log(level, text, key, number, exc_info=True, extra={"reason": "Unreadable"})
        else:
            self._told.pop(key, None)

    def _is_news(self, key: Key, number: str) -> bool:
        if self._told.get(key) == number:
            return False
        self._told[key] = number
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return True
