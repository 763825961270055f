"""Loads the weights of one source into one cache folder: the order of the steps, and which may be left out.

Lock; complete already, or `Never`; list; space; download; look for pickles; mark complete.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .cache import Cache, Complete, Entry
from .failure import LoadError, Reason
from .fetch import Download, Fetcher
from .listing import UNKNOWN, Listing, RemoteFile, check_paths
from .pickles import is_pickle
from .progress import Progress
from .selection import unsafe_format
from .settings import Settings
from .space import check_space, storage_errors
from .unpack import Unpacking

NAMES_LOGGED: Final = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """`fetched` is false where all was there already: then it may be somebody else's."""

    found: Complete
    fetched: bool


def load(settings: Settings, open_source: Callable[[], Fetcher], progress: Progress) -> Loaded:
    """Have the weights in the cache; raises LoadError. The source is opened only if it is needed."""
    cache = Cache(settings.folder)
    if settings.never:
        return Loaded(_found(cache, settings), fetched=False)
    with storage_errors(settings.cache, progress.missing), cache.locked(lambda: progress.enter("Waiting")):
        found = cache.complete()
        if isinstance(found, Complete):
            log.info("weights are in the cache already", extra={"revision": found.revision})
            return Loaded(found, fetched=False)
        progress.enter("Listing")
        download = Download(_opened(open_source), cache, progress, settings.patience_seconds)
        listing = download.listing()
        check_paths(file.path for file in listing.files)
        log.info(
            "fetching weights",
            extra={
                "revision": listing.revision,
                "files": len(listing.files),
                "bytes": listing.total_bytes,
                "left_out": listing.left_out[:NAMES_LOGGED],
            },
        )
        cache.prepare()
        entries = _weights(download, listing, settings)
        _refuse_pickles(cache.files, entries, settings)
        return Loaded(cache.finish(listing.revision, entries), fetched=True)


def sweep(settings: Settings, progress: Progress) -> None:
    """Remove the weights, once nobody fills their folder."""
    cache = Cache(settings.folder)
    with storage_errors(settings.cache, progress.missing), cache.locked(lambda: progress.enter("Waiting")):
        cache.remove()
    log.info("weights are removed", extra={"folder": str(settings.folder)})


def _opened(open_source: Callable[[], Fetcher]) -> Fetcher:
    try:
        return open_source()
    except OSError as error:
        raise LoadError(
            Reason.LOADER_FAILED,
            f"the source's client does not start: {error}; check SSL_CERT_FILE and what it names",
        ) from error


def _found(cache: Cache, settings: Settings) -> Complete:
    found = cache.complete()
    if isinstance(found, Complete):
        return found
    raise LoadError(
        Reason.WEIGHTS_MISSING,
        f"the weights are not in the cache ({found}), and nothing may be fetched: put a complete folder "
        f"{settings.key!r} there, or allow the download (downloadPolicy: Auto)",
    )


def _weights(download: Download, listing: Listing, settings: Settings) -> list[Entry]:
    """What is in files/ when all is fetched, and unpacked where it came packed."""
    cache = download.cache
    if not listing.parts:
        return _download(download, listing, cache.files, settings.parallelism)
    cache.packed.mkdir(exist_ok=True)
    _download(download, listing, cache.packed, settings.parallelism)
    download.progress.enter("Unpacking")
    return Unpacking(cache, listing.parts, listing.inside).run(settings.source)


def _download(download: Download, listing: Listing, below: Path, parallelism: int) -> list[Entry]:
    """All files of the listing, whole and verified; those that are so already are not touched."""
    cache, progress = download.cache, download.progress
    progress.enter("Downloading")
    progress.expect(listing.total_bytes)
    cache.keep_partials(listing.files)
    cache.keep_files(below, [file.path for file in listing.files])
    known = cache.verified()
    entries = [known[file.path] for file in listing.files if cache.has(file, below, known.get(file.path))]
    there = {entry.path for entry in entries}
    missing = [file for file in listing.files if file.path not in there]
    progress.found(sum(entry.size for entry in entries))
    # Packed weights need their room twice; how much they grow when they are unpacked nobody says.
    copies = 2 if listing.parts else 1
    check_space(cache.folder, _needed(cache, missing) + (copies - 1) * max(0, listing.total_bytes))
    return entries + _in_parallel(download, missing, below, parallelism)


def _needed(cache: Cache, missing: Sequence[RemoteFile]) -> int:
    needed = 0
    for file in missing:
        if file.size != UNKNOWN:
            partial = cache.partial(file)
            needed += file.size - (partial.stat().st_size if partial.exists() else 0)
    return needed


def _in_parallel(
    download: Download, missing: Sequence[RemoteFile], below: Path, parallelism: int
) -> list[Entry]:
    pool = ThreadPoolExecutor(parallelism, thread_name_prefix="fetch")
    try:
        # The largest first: were it the last, the others' connections would idle while it goes on alone.
        ordered = sorted(missing, key=lambda file: -file.size)
        futures = [pool.submit(download.file, file, below) for file in ordered]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failed = [error for future in done if (error := future.exception())]
        for error in failed:
            if not isinstance(error, InterruptedError):
                raise error
        return [future.result() for future in futures]
    finally:
        download.stop.set()
        # Nobody waits for a thread that hangs at a silent source: the process ends without it.
        pool.shutdown(wait=False, cancel_futures=True)


def _refuse_pickles(below: Path, entries: Sequence[Entry], settings: Settings) -> None:
    if settings.source.unsafe_formats:
        return
    found = [entry.path for entry in entries if entry.link is None and is_pickle(below / entry.path)]
    if found:
        for path in found:
            (below / path).unlink()
        raise unsafe_format(found)
