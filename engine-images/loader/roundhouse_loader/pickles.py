"""Whether a file is a pickle, by its bytes: what its name promises is its author's word alone."""

import zipfile
from pathlib import Path
from typing import Final

_PROTOCOL: Final = 0x80
_PROTOCOLS: Final = range(2, 6)
_STOP: Final = b"."
# Before protocol 4 `torch.save` writes several pickles and raw data after them; the first is this number.
_TORCH_LEGACY: Final = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def is_pickle(path: Path) -> bool:
    """True for a pickle of protocol 2 and up, alone or inside of the archive that `torch.save` writes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(16)
        if start[:2] == b"PK":
            return _holds_pickle(path)
        if len(start) < 2 or start[0] != _PROTOCOL or start[1] not in _PROTOCOLS:
            return False
        if start[2:15] == _TORCH_LEGACY:
            return True
        file.seek(size - 1)
        return file.read(1) == _STOP


def _holds_pickle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
