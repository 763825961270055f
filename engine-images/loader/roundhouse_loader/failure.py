"""Why weights could not be loaded: one word for the operator, a sentence for a person.

Every expected failure becomes a `LoadError` where it is seen. What may pass by itself is a `TransientError`
until the patience for it is used up; `fetch` decides that.
"""

from enum import StrEnum


class Reason(StrEnum):
    """What the operator gets to read; the words are those of its conditions."""

    UNAUTHORIZED = "Unauthorized"
    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    OUT_OF_SPACE = "OutOfSpace"
    DIGEST_MISMATCH = "DigestMismatch"
    WEIGHTS_MISSING = "WeightsMissing"
    UNSAFE_FORMAT = "UnsafeFormat"
    INVALID_SOURCE = "InvalidSource"
    LOADER_FAILED = "LoaderFailed"
    """Not the source is at fault, but the cache's file system, the certificates or the loader itself."""


class LoadError(Exception):
    """The weights cannot be loaded. `retryable`: trying again later may help with nothing changed."""

    def __init__(self, reason: Reason, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable


class TransientError(Exception):
    """The source did not do what it should, and may do it a moment later.

    `wait_seconds` is what the source asked to wait. `ended_early`: it sent less than it announced, which is
    no accident when it does so again at the same byte.
    """

    def __init__(self, message: str, *, wait_seconds: float = 0.0, ended_early: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.wait_seconds = wait_seconds
        self.ended_early = ended_early


class DigestError(Exception):
    """A whole file is not what its digest says. `fetch` decides whether it is worth a second try."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
