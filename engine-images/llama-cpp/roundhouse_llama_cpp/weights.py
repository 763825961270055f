"""Which file of a model's directory is to be loaded, and whether it can be a model at all.

A model is one GGUF file, or the parts of one as `gguf-split` names them; with several, nobody guesses.
"""

import re
from pathlib import Path
from typing import Final

from roundhouse_engine import ModelError

_PART: Final = re.compile(r"-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf$")
_MAGIC: Final = b"GGUF"


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


def _check_parts(name: str, first: Path, there: set[str]) -> None:
    part = _PART.search(first.name)
    if part is None:
        return
    stem = first.name[: part.start()]
    wanted = {f"{stem}-{number:05}-of-{part['parts']}.gguf" for number in range(1, int(part["parts"]) + 1)}
    if missing := sorted(wanted - there):
        raise ModelError(f"{name!r}: of the model's parts {', '.join(missing)} is missing. Fetch it again.")
