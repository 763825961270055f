"""Which file of a model's directory is to be loaded, and whether it can be a model at all.

A model is one GGUF file, or the parts of one as `gguf-split` names them; with several, nobody guesses.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from roundhouse_engine import ModelError

_PART: Final = re.compile(r"-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf$")
_MAGIC: Final = b"GGUF"
_PIECE_BYTES: Final = 16 << 20
_READ_PART: Final = 0.8


def find_weights(name: str, root: Path | None) -> Path:
    """The file, or the first of its parts; raises `ModelError`."""
    if root is None:
        raise ModelError(f"{name!r} has no path: llama.cpp serves GGUF files from a local directory.")
    if not root.exists():
        raise ModelError(f"{name!r}: there is no {str(root)!r}; its weights were not fetched.")
    found = [root] if root.is_file() else sorted(root.rglob("*.gguf"))
    # What sees beside a model that speaks is a file of its own, and not served here.
    files = [file for file in found if not file.name.startswith("mmproj")]
    firsts = [file for file in files if (part := _PART.search(file.name)) is None or int(part["part"]) == 1]
    if len(firsts) != 1:
        names = ", ".join(file.name for file in firsts) or "none"
        raise ModelError(
            f"{name!r}: {str(root)!r} must hold one GGUF model, and has {names}. Name the one file in the "
            "source's `include`."
        )
    _check_parts(name, firsts[0], {file.name for file in files})
    with firsts[0].open("rb") as opened:
        if opened.read(len(_MAGIC)) != _MAGIC:
            raise ModelError(f"{name!r}: {str(firsts[0])!r} is no GGUF file. Fetch it again.")
    return firsts[0]


def read_through(first: Path, progress: Callable[[float], None]) -> None:
    """Read the file, or all parts of it, once, telling how far that is; raises `ModelError`.

    llama.cpp itself says nothing of how far it is. What lies on a slow disk is in memory before it begins.
    """
    part = _PART.search(first.name)
    files = sorted(first.parent.glob(f"{first.name[: part.start()]}-*.gguf")) if part else [first]
    try:
        total, done = sum(file.stat().st_size for file in files), 0
        for file in files:
            with file.open("rb", buffering=0) as opened:
                while piece := opened.read(_PIECE_BYTES):
                    done += len(piece)
                    progress(_READ_PART * done / total)
    except OSError as error:
        raise ModelError(f"{str(first)!r} cannot be read: {error.strerror}. Fetch it again.") from error


def _check_parts(name: str, first: Path, there: set[str]) -> None:
    part = _PART.search(first.name)
    if part is None:
        return
    stem = first.name[: part.start()]
    wanted = {f"{stem}-{number:05}-of-{part['parts']}.gguf" for number in range(1, int(part["parts"]) + 1)}
    if missing := sorted(wanted - there):
        raise ModelError(f"{name!r}: of the model's parts {', '.join(missing)} is missing. Fetch it again.")
