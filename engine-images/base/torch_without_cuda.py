"""Lets torch from PyPI run where CUDA's libraries are not: four gigabytes that a CPU has no use for.

    python torch_without_cuda.py [SITE-PACKAGES]

PyPI has one build of torch for Linux, and its own libraries are linked against CUDA's: without those they
do not even load. Beside them this puts stand-ins, small shared libraries of the same names, with the same
symbols in the same versions, each of which answers "no such device". torch then finds no GPU and computes
on the processor.

A library that can be loaded gets no stand-in, so that nothing is hidden where CUDA is. Standard library
alone, because it runs while an image is built, where there is no compiler either. Running it again changes
nothing.
"""

import ctypes
import mmap
import os
import platform
import re
import struct
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

OF_CUDA = re.compile(r"lib(cu|nv|nccl)")
"""Libraries that may be missing; every other one torch brings along or the system has."""
UNVERSIONED = re.compile(r"(nccl|cufft|cusparse|cublas|cudnn|cuFile|nvrtc|cusolver|nvshmem|cu[A-Z])")
"""Symbols that are asked for without saying of which library."""
SUCCEEDS = re.compile(r"__cuda|cupti|cudaGetLastError$|cudaPeekAtLastError$")
"""What torch calls while it is loaded, to register what a GPU would compute."""
DESCRIBES = re.compile(r"Get(Error|Status)(String|Name)")

DYNAMIC, DYNAMIC_SYMBOLS, VERSIONS_NEEDED, VERSION_OF_SYMBOL = 6, 11, 0x6FFFFFFE, 0x6FFFFFFF
X86_64 = 62


@dataclass(frozen=True, slots=True)
class Object:
    """What a shared library says of itself: the libraries that it needs, and symbols."""

    needed: frozenset[str]
    versions: frozenset[tuple[str, str]]
    """Library and version, of those that it needs."""
    wanted: frozenset[tuple[str, str, str]]
    """Symbol, library and version; the last two are empty where it does not say."""
    defined: frozenset[str]


@dataclass(slots=True)
class StandIn:
    """A library to be made: its symbols, each with its version or without."""

    versions: set[str] = field(default_factory=set)
    symbols: set[tuple[str, str]] = field(default_factory=set)


def read_object(path: Path) -> Object | None:
    """None for a stand-in that was made before, which has no sections; raises `ValueError`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", data, 18)[0] != X86_64:
            raise ValueError(f"{str(path)!r} is no library for x86-64")
        (sections,) = struct.unpack_from("<H", data, 60)
        return _object(data) if sections else None


def _object(data: mmap.mmap) -> Object:
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + number * size) for number in range(count)]
    found = {section[1]: section for section in sections}

    def text(strings: int, at: int) -> str:
        start = sections[strings][4] + at
        return data[start : data.find(b"\0", start)].decode()

    _, _, _, _, start, length, strings, *_ = found[DYNAMIC]
    entries = list(struct.iter_unpack("<qQ", data[start : start + length]))
    needed = frozenset(text(strings, value) for tag, value in entries if tag == 1)
    versions = dict(_versions_needed(data, found, text))
    _, _, _, _, start, length, strings, *_ = found[DYNAMIC_SYMBOLS]
    numbers = found[VERSION_OF_SYMBOL][4]
    wanted, defined = set(), set()
    for at, symbol in enumerate(struct.iter_unpack("<IBBHQQ", data[start : start + length])):
        name = text(strings, symbol[0])
        if symbol[3]:
            defined.add(name)
        elif name:
            (number,) = struct.unpack_from("<H", data, numbers + 2 * at)
            wanted.add((name, *versions.get(number & 0x7FFF, ("", ""))))
    return Object(needed, frozenset(versions.values()), frozenset(wanted), frozenset(defined))


def _versions_needed(
    data: mmap.mmap, found: dict[int, tuple[int, ...]], text: Callable[[int, int], str]
) -> Iterator[tuple[int, tuple[str, str]]]:
    """The number by which symbols name a version; its library and itself."""
    if VERSIONS_NEEDED not in found:
        return
    at, strings, count = (found[VERSIONS_NEEDED][field] for field in (4, 6, 7))
    for _ in range(count):
        _, versions, library, first, following = struct.unpack_from("<HHIII", data, at)
        inner = at + first
        for _ in range(versions):
            _, _, number, name, step = struct.unpack_from("<IHHII", data, inner)
            yield number, (text(strings, library), text(strings, name))
            inner += step
        at += following


def plan(objects: list[Object], missing: frozenset[str]) -> dict[str, StandIn]:
    """Which stand-in has which symbols. Pure."""
    made = {name: StandIn() for name in sorted(missing)}
    defined = frozenset().union(*(each.defined for each in objects))
    for each in objects:
        for library, version in each.versions:
            if library in made:
                made[library].versions.add(version)
        for name, library, version in each.wanted:
            if library in made:
                made[library].symbols.add((name, version))
            elif not library and UNVERSIONED.match(name) and name not in defined:
                for needed in each.needed & missing:
                    made[needed].symbols.add((name, ""))
    return made


class Strings:
    """A table of strings, each ended by a zero, told apart by where they begin."""

    def __init__(self) -> None:
        self.data = bytearray(1)

    def add(self, text: str) -> int:
        at = len(self.data)
        self.data += text.encode() + b"\0"
        return at


# What the functions of a stand-in do; the last one's address of the text is relative to its own end.
_CODE = {
    "fails": b"\xb8\x64\0\0\0\xc3",
    "succeeds": b"\x31\xc0\xc3",
    "describes": b"\x48\x8d\x05\x01\0\0\0\xc3",
}
_TEXT = b"CUDA is not in this image\0"
_HEAD_BYTES = 64 + 4 * 56
_PAGE = 4096


def _behaviour(symbol: str) -> str:
    if DESCRIBES.search(symbol):
        return "describes"
    return "succeeds" if SUCCEEDS.match(symbol) else "fails"


def library(name: str, stand_in: StandIn) -> bytes:
    """The bytes of the shared library. Pure."""
    strings = Strings()
    soname = strings.add(name)
    versions = ["", *sorted(stand_in.versions | {version for _, version in stand_in.symbols if version})]
    named = {version: strings.add(version or name) for version in versions}
    symbols = sorted(stand_in.symbols)

    parts = bytearray(_HEAD_BYTES)
    code = {}
    for kind, instructions in _CODE.items():
        code[kind] = len(parts)
        parts += instructions
    parts += _TEXT
    table = bytes(24) + b"".join(
        struct.pack("<IBBHQQ", strings.add(symbol), 0x12, 0, 1, code[_behaviour(symbol)], 8)
        for symbol, _ in symbols
    )
    numbers = [0, *(versions.index(version) + 1 for _, version in symbols)]

    def place(data: bytes) -> int:
        parts.extend(bytes(-len(parts) % 8))
        parts.extend(data)
        return len(parts) - len(data)

    dynamic = [
        (14, soname),
        (5, place(bytes(strings.data))),
        (10, len(strings.data)),
        (6, place(table)),
        (11, 24),
        (4, place(_hash_table([symbol for symbol, _ in symbols]))),
        (0x6FFFFFF0, place(struct.pack(f"<{len(numbers)}H", *numbers))),
        (0x6FFFFFFC, place(_definitions(versions, named))),
        (0x6FFFFFFD, len(versions)),
        (0, 0),
    ]
    return _finished(parts, b"".join(struct.pack("<QQ", *each) for each in dynamic))


def _finished(parts: bytearray, dynamic: bytes) -> bytes:
    """With the part that the linker writes into on a page of its own, and the header in its place."""
    loaded = len(parts)
    parts.extend(bytes(-len(parts) % _PAGE))
    at = len(parts)
    parts.extend(dynamic)
    segments = [
        (1, 5, 0, loaded, _PAGE),
        (1, 6, at, len(dynamic), _PAGE),
        (2, 6, at, len(dynamic), 8),
        (0x6474E551, 6, 0, 0, 16),  # a stack that is not executable
    ]
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, X86_64, 1, 0, 64, 0, 0, 64, 56, len(segments), 64, 0, 0)
    for kind, rights, start, size, alignment in segments:
        head += struct.pack("<IIQQQQQQ", kind, rights, start, start, start, size, size, alignment)
    parts[: len(head)] = head
    return bytes(parts)


def _definitions(versions: list[str], named: dict[str, int]) -> bytes:
    """The library's versions; the first is the library itself."""
    table = b""
    for number, version in enumerate(versions, 1):
        following = 0 if number == len(versions) else 28
        digest = elf_hash(version) if version else 0
        table += struct.pack("<HHHHIII", 1, number == 1, number, 1, digest, 20, following)
        table += struct.pack("<II", named[version], 0)
    return table


def _hash_table(symbols: list[str]) -> bytes:
    buckets = [0] * (len(symbols) or 1)
    chain = [0] * (len(symbols) + 1)
    for index, symbol in enumerate(symbols, 1):
        bucket = elf_hash(symbol) % len(buckets)
        chain[index], buckets[bucket] = buckets[bucket], index
    return struct.pack(f"<{2 + len(buckets) + len(chain)}I", len(buckets), len(chain), *buckets, *chain)


def elf_hash(name: str) -> int:
    """The hash of symbols and versions that the format of these files has prescribed since 1988."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value


def loadable(name: str, packages: Path) -> bool:
    """Whether the system has the library, or a package of NVIDIA's, which torch looks through first."""
    if any(packages.glob(f"nvidia/*/lib/{name}")):
        return True
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def main(packages: Path) -> None:
    folder = packages / "torch/lib"
    if not folder.is_dir():
        raise SystemExit(f"there is no torch in {str(packages)!r}: install it first")
    if platform.machine() != "x86_64":
        return
    read = {
        path.name: read_object(path) for path in [*folder.glob("*.so*"), *(packages / "torch").glob("_C*.so")]
    }
    objects = [each for each in read.values() if each is not None]
    there = {name for name, each in read.items() if each is not None}
    needed = frozenset().union(*(each.needed for each in objects))
    missing = frozenset(
        name for name in needed - there if OF_CUDA.match(name) and not loadable(name, packages)
    )
    for name, stand_in in plan(objects, missing).items():
        unfinished = folder / f".{name}.{os.getpid()}"
        unfinished.write_bytes(library(name, stand_in))
        unfinished.replace(folder / name)  # whole or not at all, whoever else does this now
    print(f"torch without CUDA: {len(missing)} libraries made in {folder}")  # noqa: T201 - a build's log


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(sysconfig.get_path("purelib")))
