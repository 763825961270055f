"""Whether a file is a pickle, by its bytes: what its name promises is its author's word alone."""

import pickletools
import zipfile
from pathlib import Path
from typing import Final

_LOOKED_AT_BYTES: Final = 1 << 20
_PROTOCOL: Final = 0x80
_PROTOCOLS: Final = range(2, 6)
_CALLING: Final = frozenset(
    {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"}
    | {"EXT1", "EXT2", "EXT4"}
)
# Before protocol 4 `torch.save` writes several pickles and raw data after them; the first is this number.
_TORCH_LEGACY: Final = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def is_pickle(path: Path) -> bool:
    """True for a pickle, alone or inside of the archive that `torch.save` writes, whatever follows it.

    Protocols 0 and 1 have no mark of their own: they are pickles here where they name something to call.
    """
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT_BYTES)
    if start[:2] == b"PK":
        return _holds_pickle(path)
    marked = len(start) > 1 and start[0] == _PROTOCOL and start[1] in _PROTOCOLS
    if marked and start[2:15] == _TORCH_LEGACY:
        return True
    return _is_program(start, marked=marked)


def _is_program(start: bytes, *, marked: bool) -> bool:
    """Whether these are a pickle's instructions, to its end or to that of `start`."""
    calling = False
    try:
        for opcode, _, _ in pickletools.genops(start):
            calling = calling or opcode.name in _CALLING
    except ValueError as error:
        # All but those of an unknown one: what an instruction takes goes beyond what was looked at.
        return marked and not str(error).endswith("unknown")
    return marked or calling


def _holds_pickle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
