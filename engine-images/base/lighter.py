"""Makes the libraries of installed packages lighter by what nothing reads: of torch's half of a gigabyte.

    python lighter.py SITE-PACKAGES

Out go the tables of symbols for debuggers and all else that is never mapped into memory, three quarters of
some libraries; and, where no library of NVIDIA's is installed, the programs for GPUs, which nothing starts.
Each library keeps its addresses, so its code is untouched; where the programs for GPUs were, nothing is
mapped. One that is built in a way that this does not know stays as it is. Standard library alone, because it
runs while an image is built. Running it again changes nothing.
"""

import mmap
import os
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

FOR_GPUS = b".nv_fatbin"
LIBRARY = re.compile(r"\.so(\.|$)")
HEAD_BYTES, SEGMENT_BYTES, PAGE = 64, 56, 4096
LOADED = 1
X86_64 = 62


@dataclass(frozen=True, slots=True)
class Segment:
    """An entry of the program header table: addresses and sizes in bytes."""

    kind: int
    rights: int
    offset: int
    address: int
    physical: int
    stored: int
    mapped: int
    alignment: int

    def packed(self) -> bytes:
        places = (self.offset, self.address, self.physical, self.stored, self.mapped, self.alignment)
        return struct.pack("<IIQQQQQQ", self.kind, self.rights, *places)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the file as its section header table has it."""

    name: bytes
    mapped: bool
    offset: int
    size: int


def read_segments(data: mmap.mmap | bytes) -> list[Segment]:
    """Raises `ValueError` for what is no library for x86-64."""
    if data[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", data, 18)[0] != X86_64:
        raise ValueError("this is no library for x86-64")
    (at,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    if (at, size) != (HEAD_BYTES, SEGMENT_BYTES):
        raise ValueError("its program headers are not where linkers put them")
    return [Segment(*struct.unpack_from("<IIQQQQQQ", data, at + number * size)) for number in range(count)]


def read_sections(data: mmap.mmap | bytes) -> list[Section]:
    """Of what `read_segments` takes; none are left in a library that is light already."""
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, named = struct.unpack_from("<HHH", data, 58)
    if not count:
        return []
    found = [struct.unpack_from("<IIQQQQIIQQ", data, table + number * size) for number in range(count)]
    names = found[named][4]
    unstored = 8  # .bss and its like

    def name(at: int) -> bytes:
        return bytes(data[names + at : data.find(b"\0", names + at)])

    return [
        Section(name(each[0]), bool(each[2] & 2), each[4], 0 if each[1] == unstored else each[5])
        for each in found[1:]
    ]


def split(segment: Segment, gap: Section) -> Iterator[Segment]:
    """The segment without the whole pages of `gap`: itself, or what is before and after them. Pure."""
    page = max(PAGE, segment.alignment)
    begin = -(-gap.offset // page) * page
    end = (gap.offset + gap.size) // page * page
    last = segment.offset + segment.stored
    if segment.kind != LOADED or not segment.offset <= begin < end < last:
        yield segment
        return
    before, after = begin - segment.offset, end - segment.offset
    yield replace(segment, stored=before, mapped=before)
    yield replace(
        segment,
        offset=end,
        address=segment.address + after,
        physical=segment.physical + after,
        stored=segment.stored - after,
        mapped=segment.mapped - after,
    )


def lightened(data: mmap.mmap | bytes, *, gpus: bool) -> bytes | None:
    """The library with its loaded parts alone, with or without programs for GPUs; None if it is light.

    Raises `ValueError` where it is built in a way that this does not know.
    """
    segments, sections = read_segments(data), read_sections(data)
    if not sections:
        return None
    for gap in (each for each in sections if each.name == FOR_GPUS and not gpus):
        segments = [part for segment in segments for part in split(segment, gap)]
    first = min(each.offset for each in sections if each.mapped and each.offset)
    if HEAD_BYTES + SEGMENT_BYTES * len(segments) > first:
        raise ValueError("there is no room for another program header")
    parts = sorted((each for each in segments if each.kind == LOADED), key=lambda each: each.offset)
    if parts[0].offset or parts[0].stored < first:
        raise ValueError("its head is not loaded")
    made, moved = bytearray(), {}
    for each in parts:
        page = max(PAGE, each.alignment)
        made.extend(bytes((each.address - len(made)) % page))
        moved[each.address] = replace(each, offset=len(made))
        made += data[each.offset : each.offset + each.stored]
    table = b"".join(_moved(each, moved).packed() for each in segments)
    made[HEAD_BYTES : HEAD_BYTES + len(table)] = table
    struct.pack_into("<Q", made, 40, 0)  # no section headers
    struct.pack_into("<HHHH", made, 56, len(segments), 0, 0, 0)
    return bytes(made) if len(made) < len(data) else None


def _moved(segment: Segment, loaded: dict[int, Segment]) -> Segment:
    """With its new place in the file; one that is within a loaded segment goes with it."""
    if not segment.stored:
        return segment
    for each in loaded.values():
        inside = segment.address - each.address
        if inside >= 0 and inside + segment.stored <= each.stored:
            return replace(segment, offset=each.offset + inside)
    raise ValueError(f"what is at address {segment.address:#x} would not be loaded")


def lighten(path: Path, *, gpus: bool) -> bool:
    """Replace the library by a lighter one, where that is known how; whether it is as light as can be now."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            made = lightened(data, gpus=gpus)
        except (ValueError, struct.error):
            return False
    if made is not None:
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_bytes(made)
        unfinished.chmod(path.stat().st_mode)
        unfinished.replace(path)
    return True


def main(packages: Path) -> None:
    gpus = any(packages.glob("nvidia/*/lib/*.so*"))
    libraries = [
        path
        for path in sorted(packages.rglob("*"))
        if LIBRARY.search(path.name) and path.is_file() and not path.is_symlink()
        if path.relative_to(packages).parts[0] != "nvidia"
    ]
    before = sum(path.stat().st_size for path in libraries)
    left = [path for path in libraries if path.stat().st_size and not lighten(path, gpus=gpus)]
    after = sum(path.stat().st_size for path in libraries)
    print(  # noqa: T201 - a build's log
        f"{len(libraries)} libraries: {before / 1e6:.0f} MB are {after / 1e6:.0f} MB now;",
        f"{len(left)} stay as they are",
        *(str(path.relative_to(packages)) for path in left),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
