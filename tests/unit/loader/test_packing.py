"""Archives as nobody should make them: each comes whole or is refused in words, and leaves nothing behind."""

import bz2
import gzip
import io
import lzma
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import zstandard

from roundhouse_loader.cache import Cache
from roundhouse_loader.failure import LoadError, Reason
from roundhouse_loader.listing import LONGEST_PATH_BYTES, Part
from roundhouse_loader.packing import items, pieces
from roundhouse_loader.source import HTTP, Source
from roundhouse_loader.unpack import ALWAYS_BYTES, Unpacking

BODY: Final = bytes(range(256)) * 12
ENTRIES: Final = {"m/a.gguf": BODY, "m/" + "ü" * 70: b"long name", "m/c.conf": b"x"}
SPOILED: Final = 150
"""Of each kind of archive."""
HEADER: Final = tarfile.BLOCKSIZE


def tar(entries: dict[str, bytes] = ENTRIES, form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as archive:
        for name, body in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return out.getvalue()


def zipped(entries: dict[str, bytes] = ENTRIES) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, body in entries.items():
            archive.writestr(name, body)
    return out.getvalue()


def unpacked(folder: Path, body: bytes) -> dict[str, bytes]:
    """Raises LoadError; either way nothing is left but the archive and the weights."""
    cache = Cache(folder)
    cache.packed.mkdir(parents=True, exist_ok=True)
    cache.prepare()
    (cache.packed / "archive").write_bytes(body)
    source = Source(HTTP("https://example.org/archive", "0" * 64))
    try:
        entries = Unpacking(cache, [Part("archive", "archive")], "").run(source)
    finally:
        assert [path.name for path in cache.packed.iterdir()] == ["archive"]
    return {entry.path: (cache.files / entry.path).read_bytes() for entry in entries}


def read(path: Path) -> dict[str, bytes]:
    """What is in the archive; raises LoadError."""
    return {item.name: b"".join(pieces(path, item.content)) for item in items(path) if item.content}


WHOLE: Final = {
    "tar": tar(),
    "pax": tar(form=tarfile.PAX_FORMAT),
    "gz": gzip.compress(tar()),
    "bz2": bz2.compress(tar()),
    "xz": lzma.compress(tar()),
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress(tar()),
    "zip": zipped(),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_damaged_archive_is_refused_in_words_or_has_all_its_files(kind: str, tmp_path: Path) -> None:
    chance, refused = np.random.default_rng(7), []
    path = tmp_path / "archive"
    path.write_bytes(WHOLE[kind])
    assert read(path) == ENTRIES
    for _ in range(SPOILED):
        body = bytearray(WHOLE[kind])
        body[chance.integers(len(body))] ^= chance.integers(1, 256)
        path.write_bytes(body)
        try:
            found = read(path)
        except LoadError as error:
            refused.append(error.reason)
        else:
            assert len(found) == len(ENTRIES)
    assert set(refused) == {Reason.INVALID_SOURCE}


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_an_archive_that_ends_within_a_member_or_before_its_checksum_is_refused(
    kind: str, tmp_path: Path
) -> None:
    for end in (len(WHOLE[kind]) // 3, len(WHOLE[kind]) - 2):
        with pytest.raises(LoadError, match="cannot be unpacked"):
            unpacked(tmp_path, WHOLE[kind][:end])


def _with_size(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive whose first member says that it is of that size."""
    member = tarfile.TarInfo("model.gguf")
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT) + tar()


def _with_bad_checksum() -> bytes:
    body = bytearray(zipped({"model.gguf": BODY}))
    body[1000] ^= 1
    return bytes(body)


def _damaged_in_the_middle() -> bytes:
    body = bytearray(tar())
    body[body.index(b"m/c.conf")] ^= 1
    return bytes(body)


def _not_ending_its_gzip() -> bytes:
    body = bytearray(gzip.compress(tar()))
    body[-8] ^= 1
    return bytes(body)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_with_bad_checksum, "Bad CRC-32"),
        (_damaged_in_the_middle, "header is damaged"),
        (lambda: tar()[: tar().index(b"m/c.conf") + 100], "header is damaged"),
        (_not_ending_its_gzip, "CRC check failed"),
        (lambda: _with_size(1 << 20), "unexpected end of data"),
        (lambda: _with_size(1 << 45), "unpacks to more than 100 times"),
        (lambda: _with_size(ALWAYS_BYTES, tarfile.GNUTYPE_LONGNAME), "header cannot be of"),
        (lambda: _with_size(-1), "header cannot be of"),
        (lambda: tar({"m/\udcff.gguf": b"x"}), "no UTF-8"),
        (lambda: tar({"a/" * (LONGEST_PATH_BYTES // 2) + "b": b"x"}), "too long"),
    ],
    ids=[
        *("checksum of zip", "header", "cut in a header", "checksum of gzip", "size", "absurd size"),
        *("long name", "negative size", "name", "deep"),
    ],
)
def test_an_archive_that_lies_is_told(make: Callable[[], bytes], why: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=why) as told:
        unpacked(tmp_path, make())
    assert told.value.reason == Reason.INVALID_SOURCE


def test_what_unpacks_to_more_than_weights_do_is_refused_before_it_is(tmp_path: Path) -> None:
    bomb = gzip.compress(_with_size(ALWAYS_BYTES * 4)[:HEADER] + bytes(1 << 20))
    with pytest.raises(LoadError, match="unpacks to more than 100 times its size"):
        unpacked(tmp_path, bomb)


def test_a_sparse_file_has_its_holes(tmp_path: Path) -> None:
    """As GNU's tar writes it: two pieces of data with nothing before, between and behind them."""
    said = tarfile.TarInfo("model.gguf")
    said.type, said.size = tarfile.GNUTYPE_SPARSE, 2 * HEADER
    header = bytearray(said.tobuf(tarfile.GNU_FORMAT))
    numbers = (HEADER, HEADER, 4 * HEADER, HEADER)
    header[386 : 386 + 48] = b"".join(b"%011o\0" % number for number in numbers)
    header[483:495] = b"%011o\0" % (6 * HEADER)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    pieces = b"1" * HEADER, b"2" * HEADER
    found = unpacked(tmp_path, bytes(header) + b"".join(pieces) + tar({}))
    hole = bytes(HEADER)
    assert found == {"model.gguf": hole + pieces[0] + hole * 2 + pieces[1] + hole}


def test_names_that_differ_a_little_are_files_of_their_own(tmp_path: Path) -> None:
    composed = "models/é.gguf"
    names = ["Model.gguf", "model.gguf", composed, unicodedata.normalize("NFD", composed)]
    entries = {name: str(place).encode() for place, name in enumerate(names)}
    assert unpacked(tmp_path, tar(entries)) == entries
    assert unpacked(tmp_path / "zip", zipped(entries)) == entries
