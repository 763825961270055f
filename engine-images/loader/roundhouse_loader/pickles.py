"""Whether a file is a pickle, by its bytes: what its name promises is its author's word alone."""

import os
import pickletools
import zipfile
from pathlib import Path
from typing import IO, BinaryIO, Final, cast

_LOOKED_AT_BYTES: Final = 1 << 20
_NO_ACCIDENT: Final = 16
"""Instructions on end, with a stack that they could work on."""
_PROTOCOL: Final = 0x80
_PROTOCOLS: Final = range(2, 6)
_NAMING: Final = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"})
_CALLING: Final = frozenset({"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"})
# Before protocol 4 `torch.save` writes several pickles and raw data after them; the first is this number.
_TORCH_LEGACY: Final = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def is_pickle(path: Path) -> bool:
    """True for a pickle, alone or inside of the archive that `torch.save` writes, whatever follows it.

    Protocols 0 and 1 have no mark of their own: they are pickles here where they name something to call.
    """
    with path.open("rb") as file:
        start = file.read(2 + len(_TORCH_LEGACY))
        if start[:2] == b"PK":
            return _holds_pickle(path)
        marked = len(start) > 1 and start[0] == _PROTOCOL and start[1] in _PROTOCOLS
        if marked and start[2:] == _TORCH_LEGACY:
            return True
        file.seek(0)
        return _is_program(_Looked(file), marked=marked)


class _BeyondError(Exception):
    """There is more than is looked at."""


class _Looked:
    """The beginning of a file, for those who read instructions."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        at = self.tell()
        if at < self._size and at + size > _LOOKED_AT_BYTES and at + size <= self._size:
            raise _BeyondError
        return self._file.read(min(size, _LOOKED_AT_BYTES))

    def readline(self) -> bytes:
        line = self._file.readline(_LOOKED_AT_BYTES)
        if len(line) == _LOOKED_AT_BYTES:
            raise _BeyondError
        return line


def _is_program(looked: _Looked, *, marked: bool) -> bool:
    """Whether these are a pickle's instructions: it carries each out before it reads the next.

    Texts are instructions for a while, too, without a stack that they could work on.
    """
    stack: list[object] = []
    sound, named, called, instructions = True, False, False, 0
    try:
        for opcode, argument, _ in pickletools.genops(cast("IO[bytes]", looked)):
            instructions += 1
            sound = sound and _worked_on(stack, opcode)
            if sound:
                named = named or (opcode.name in _NAMING and _is_name(argument))
                called = called or (named and opcode.name in _CALLING)
    except _BeyondError:
        return marked or (sound and (named or instructions > _NO_ACCIDENT))
    except ValueError as error:
        # All but those of an unknown one: it has an argument that is none, or ends within it.
        return called or (marked and not str(error).endswith("unknown"))
    return marked or called


def _is_name(argument: object) -> bool:
    """Of a module and what is in it, where the instruction has them itself."""
    return not isinstance(argument, str) or all(
        part.isidentifier() for part in argument.replace(" ", ".").split(".")
    )


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
            return any(name.endswith(".pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
