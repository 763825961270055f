"""Brings one file whole and verified into the cache, however often its source fails on the way.

Patience: failures are retried with growing pauses. A source that has given nothing for `patience_seconds`
counts as unreachable; each megabyte gained starts that time anew.
"""

import logging
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from .cache import Cache, Entry
from .failure import DigestError, LoadError, Reason, TransientError
from .listing import UNKNOWN, Listing, RemoteFile
from .partial import Partial, Sink
from .progress import Progress

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
GAIN_BYTES: Final = 1 << 20
SAME_END_LIMIT: Final = 3
"""So often may a source end at the same byte, before all it announced, until it is taken at its word."""

log = logging.getLogger(__name__)


class Fetcher(Protocol):
    """A place that weights come from."""

    def listing(self) -> Listing:
        """What there is to fetch; raises LoadError or TransientError."""
        ...

    def fetch(self, file: RemoteFile, sink: Sink, /) -> None:
        """Append to `sink`, from its offset on; raises LoadError or TransientError."""
        ...


@dataclass(slots=True)
class Patience:
    """How long failures are borne."""

    seconds: float
    stop: threading.Event
    progress: Progress
    _since: float | None = None
    _pause: float = FIRST_PAUSE_SECONDS

    def gained(self) -> None:
        self._since, self._pause = None, FIRST_PAUSE_SECONDS

    def bear(self, error: TransientError) -> None:
        """Wait before the next try; raises LoadError SourceUnreachable when the patience is at its end."""
        now = time.monotonic()
        if self._since is not None:  # what fails once is tried again before anybody can read of it
            self.progress.failed(error.message)
        self._since = now if self._since is None else self._since
        # Half of it by chance, or the loaders that one outage stopped would all come back at once.
        pause = max(self._pause * random.uniform(0.5, 1.0), error.wait_seconds)  # noqa: S311 - no secret
        if now + pause - self._since > self.seconds:
            raise LoadError(
                Reason.SOURCE_UNREACHABLE,
                f"{error.message}; given up after {now - self._since:.0f} s of trying, what is fetched is "
                "kept. Check network, proxy and whether the source is up",
                retryable=True,
            ) from error
        log.warning(
            "source failed, trying again", extra={"error": error.message, "pause_seconds": round(pause, 1)}
        )
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        if self.stop.wait(pause):
            raise InterruptedError


@dataclass(slots=True)
class Download:
    """What the downloads of one source share."""

    fetcher: Fetcher
    cache: Cache
    progress: Progress
    patience_seconds: float
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when one of them failed for good: the others end."""

    def listing(self) -> Listing:
        patience = Patience(self.patience_seconds, self.stop, self.progress)
        while True:
            try:
                return self.fetcher.listing()
            except TransientError as error:
                patience.bear(error)

    def file(self, file: RemoteFile, below: Path) -> Entry:
        """Have `file` below `below`; raises LoadError."""
        path = self.cache.partial(file)
        with Partial(path, file, self.progress, self.stop.is_set) as partial:
            taken_up = partial.offset > 0
            while True:
                self._fill(file, partial)
                try:
                    sha256 = partial.verify()
                    break
                except DigestError as error:
                    partial.restart()
                    if not taken_up:
                        raise _mismatch(error) from error
                    # The fault may lie in what an earlier loader left, so the source gets one chance more.
                    log.warning("fetching the file anew", extra={"path": file.path, "error": error.message})
                    taken_up = False
        entry = Entry(file.path, partial.offset, sha256, file.identity)
        self.cache.put(path, below, entry)
        return entry

    def _fill(self, file: RemoteFile, partial: Partial) -> None:
        """Append until all is there."""
        patience = Patience(self.patience_seconds, self.stop, self.progress)
        same_end = 0
        while partial.size == UNKNOWN or partial.offset < partial.size:
            before = partial.offset
            try:
                self.fetcher.fetch(file, partial)
                _check_end(partial)
            except TransientError as error:
                if partial.offset - before >= GAIN_BYTES:
                    patience.gained()
                same_end = same_end + 1 if error.ended_early and partial.offset == before else 0
                if same_end >= SAME_END_LIMIT:
                    raise _lies(file, partial) from error
                patience.bear(error)
            else:
                return


def _check_end(partial: Partial) -> None:
    if partial.size not in {UNKNOWN, partial.offset}:
        raise TransientError(
            f"{partial.path!r} ended at byte {partial.offset} of {partial.size}", ended_early=True
        )


def _mismatch(error: DigestError) -> LoadError:
    return LoadError(
        Reason.DIGEST_MISMATCH,
        f"{error.message}. Check the digest in the source, and whether the file was replaced",
    )


def _lies(file: RemoteFile, partial: Partial) -> LoadError:
    return LoadError(
        Reason.DIGEST_MISMATCH,
        f"{file.path!r} ends at byte {partial.offset}, again and again, where the source announces "
        f"{partial.size} bytes; it lies about its size, or a proxy cuts the file off",
    )
