"""Whether a file is a pickle, by its bytes: what its name promises is its author's word alone."""

import os
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_LOOKED_AT_BYTES: Final = 1 << 20
"""Of instructions: hundreds at least, and no accident where each has a stack that it could work on."""
_LONG_BYTES: Final = 1 << 12
"""Of an argument: what is longer is passed over."""
_ZIPPED: Final = b"PK\x03\x04"
_PROTOCOL: Final = 0x80
_PROTOCOLS: Final = range(2, 6)
_NAMING: Final = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"})
_CALLING: Final = frozenset({"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"})
_OPCODES: Final = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_LENGTHS: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
"""In bytes, by what `pickletools` says of the argument that follows it."""
_LINES: Final = {"GLOBAL": 2, "INST": 2}
_NUMBER: Final = re.compile(rb"\s*[+-]?(\d|\.\d|inf|nan)", re.IGNORECASE)
_FORMS: Final = dict.fromkeys(("INT", "LONG", "FLOAT", "GET", "PUT"), _NUMBER) | {
    "STRING": re.compile(rb"['\"]")
}
"""How a line begins that is an argument of these; the others take any."""
# Before protocol 4 `torch.save` writes several pickles and raw data after them; the first is this number.
_TORCH_LEGACY: Final = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def is_pickle(path: Path) -> bool:
    """True for a pickle, alone or inside of the archive that `torch.save` writes, whatever follows it.

    Protocols 0 and 1 have no mark of their own: they are pickles here where they name something to call.
    """
    with path.open("rb") as file:
        start = file.read(2 + len(_TORCH_LEGACY))
        if start.startswith(_ZIPPED):
            return _holds_pickle(path)
        marked = len(start) > 1 and start[0] == _PROTOCOL and start[1] in _PROTOCOLS
        if marked and start[2:] == _TORCH_LEGACY:
            return True
        file.seek(0)
        return _is_program(_Looked(file), marked=marked)


class _BeyondError(Exception):
    """There is more than is looked at."""


class _Looked:
    """A file for those who read instructions: what only fills it is passed over, and does not count."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._left = _LOOKED_AT_BYTES

    def take(self, size: int) -> bytes:
        """So many bytes, or the first of very many. Raises `ValueError` where the file has fewer."""
        data = self._counted(self._file.read(max(0, min(size, _LONG_BYTES))))
        if more := size - len(data):
            if not 0 < more <= self._size - self._file.tell():
                raise ValueError("the file ends within an instruction")
            self._file.seek(more, os.SEEK_CUR)
        return data

    def take_line(self) -> bytes:
        """Without its end, or the beginning of a long one. Raises `ValueError` where the file ends first."""
        line = piece = self._counted(self._file.readline(_LONG_BYTES))
        while piece and not piece.endswith(b"\n"):
            piece = self._file.readline(_LONG_BYTES)
        if not piece:
            raise ValueError("the file ends within a line")
        return line.removesuffix(b"\n")

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise _BeyondError
        return data


def _instructions(looked: _Looked) -> Iterator[tuple[pickletools.OpcodeInfo, list[bytes]]]:
    """Each with the lines that are its argument, taken as forgivingly as those who carry it out take them.

    Raises `KeyError` for what is no instruction, `ValueError` for what is no argument of one.
    """
    while True:
        opcode = _OPCODES[looked.take(1)]
        size = opcode.arg.n if opcode.arg else 0
        lines: list[bytes] = []
        if size == pickletools.UP_TO_NEWLINE:
            lines = [looked.take_line() for _ in range(_LINES.get(opcode.name, 1))]
            if (form := _FORMS.get(opcode.name)) and not form.match(lines[0]):
                raise ValueError("this is no argument of the instruction")
        elif size < 0:
            told = looked.take(_LENGTHS[size])
            size = int.from_bytes(told, "little", signed=size == pickletools.TAKEN_FROM_ARGUMENT4)
            looked.take(size)
        else:
            looked.take(size)
        yield opcode, lines


def _is_program(looked: _Looked, *, marked: bool) -> bool:
    """Whether these are a pickle's instructions: it carries each out before it reads the next.

    Texts are instructions for a while, too, without a stack that they could work on. What does not end
    within the bytes that are looked at, and was sound so far, is taken for one.
    """
    stack: list[object] = []
    sound, named, called = True, False, False
    try:
        for opcode, lines in _instructions(looked):
            if marked and opcode.name == "STOP":
                return True
            sound = sound and _worked_on(stack, opcode)
            if sound:
                named = named or (opcode.name in _NAMING and _is_name(lines))
                called = called or (named and opcode.name in _CALLING)
            elif not marked:
                break
    except _BeyondError:
        return True
    except ValueError:
        return marked or called
    except KeyError:
        pass
    return called


def _is_name(lines: list[bytes]) -> bool:
    """Of a module and what is in it, where the instruction has them itself."""
    return all(part.isidentifier() for line in lines for part in line.decode(errors="replace").split("."))


def _worked_on(stack: list[object], opcode: pickletools.OpcodeInfo) -> bool:
    """Do to the stack what the instruction does; False where it takes more than there is."""
    mark, taken = pickletools.markobject, len(opcode.stack_before)
    if mark in opcode.stack_before:
        taken = opcode.stack_before.index(mark) + 1
        while stack and stack[-1] is not mark:
            stack.pop()
    if taken > len(stack):
        return False
    del stack[len(stack) - taken :]
    stack.extend(opcode.stack_after)
    return True


def _holds_pickle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            # torch finds what it looks for whatever its case.
            return any(name.lower().endswith(".pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, struct.error):
        return True  # others may be able to read it
