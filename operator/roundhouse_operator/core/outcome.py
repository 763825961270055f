"""What came of the writes of a pass, as the status needs to know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CONFLICT: Final = 409


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause in a refusal of the API server: a field and what is wrong with it."""

    reason: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field of a child that somebody else holds with another value than ours."""

    child: str
    """As in `Deployment kws`."""
    path: str
    """As the API server writes it: `.spec.replicas`."""
    manager: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server's answer to a child that it would not take."""

    child: str
    status: int
    message: str
    foreign: bool = False
    """Somebody else has an object of that kind and name."""

    @property
    def raced(self) -> bool:
        """Whether somebody was only quicker: the next pass sees to it, and nothing is wrong."""
        return self.status == CONFLICT and not self.foreign

    @property
    def about_spec(self) -> bool:
        """Whether the object itself is wrong, and not its being made here and now."""
        return self.status in (400, 422)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of applying one variant's children."""

    conflicts: tuple[Conflict, ...] = ()
    refusal: Refusal | None = None
    cache_refusal: Refusal | None = None
    """Of a claim, a Job or a record of weights."""
    failure: str = ""
    """Why the writes did not come to an end, though the same ones may the next time."""


DONE = Outcome()
