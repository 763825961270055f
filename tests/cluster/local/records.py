"""Which files of the cache are whole, and which folders of it nobody uses any more.

Each file has a record beside it: what it was built from, its checksum, and how it looked when that was taken.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

KEPT_SECONDS = 14 * 24 * 3600.0


def sound(path: Path, *, full_check: bool = False) -> bool:
    """Whether a built file is what its record says; a file that looks touched is read in full."""
    try:
        record = json.loads(_record(path).read_text())
        status = path.stat()
        if not full_check and record["stamp"] == _stamp(status):
            return True
        if record["size"] != status.st_size or record["sha256"] != _sha256(path):
            return False
    except (OSError, ValueError, KeyError):
        return False
    _write_record(path, record["sha256"], record.get("key", ""))
    return True


def put(source: Path, target: Path, key: str = "") -> None:
    """Move a finished file into place: it is there whole, with its record, or not at all.

    `key` says what it was built from.
    """
    with source.open("rb") as file:
        os.fsync(file.fileno())
    digest = _sha256(source)
    _record(target).unlink(missing_ok=True)
    source.replace(target)
    _write_record(target, digest, key)


def take_over(target: Path, key: str) -> bool:
    """Share the file of another version's folder that was built from the very same pins."""
    for record in target.parent.parent.glob(f"*/{_record(target).name}"):
        built = record.with_name(target.name)
        try:
            same = json.loads(record.read_text())["key"] == key
        except (OSError, ValueError, KeyError):
            continue
        if same and built != target and sound(built, full_check=True):
            target.unlink(missing_ok=True)
            target.hardlink_to(built)
            _record(target).write_bytes(record.read_bytes())
            return True
    return False


def mark_used(folder: Path) -> None:
    os.utime(folder)


def drop_unused(kept: Path, in_use: set[Path]) -> list[Path]:
    """Remove the sibling folders that nobody marked as used for two weeks and no cluster runs from."""
    oldest = time.time() - KEPT_SECONDS
    others = [folder for folder in kept.parent.iterdir() if folder != kept and folder not in in_use]
    dropped = [folder for folder in others if folder.is_dir() and folder.stat().st_mtime < oldest]
    for folder in dropped:
        shutil.rmtree(folder)
    return dropped


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256.json")


def _write_record(path: Path, digest: str, key: str) -> None:
    status = path.stat()
    record = {"sha256": digest, "key": key, "size": status.st_size, "stamp": _stamp(status)}
    # Whoever checks a file may write, several at once: each has an unfinished record of its own.
    with tempfile.NamedTemporaryFile("w", prefix=".record-", dir=path.parent, delete=False) as file:
        file.write(json.dumps(record))
    Path(file.name).replace(_record(path))


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
