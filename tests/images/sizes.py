"""How large an image may be: the megabytes of all its layers, the base's too, as they are unpacked.

A test holds those for processors to it, and the build those for GPUs, which no test builds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .folder import megabytes
from .store import ImageError

MOST_MB: Final[Mapping[str, float]] = {
    "operator": 220,
    "gateway": 300,
    "loader": 200,
    "llama-cpp": 320,
    "pocketsphinx": 320,
    "faster-whisper": 500,
    "transformers": 1200,
    "musicgen": 1200,
    "nemo": 1850,
}
MOST_MB_ON_GPUS: Final[Mapping[str, float]] = {
    "llama-cpp": 2000,  # not measured yet
    "faster-whisper": 1700,
    "transformers": 4700,
    "musicgen": 4700,
    "nemo": 5300,
}


def check_sizes(folders: Mapping[str, Path], most: Mapping[str, float]) -> None:
    """Raises `ImageError` with all that are larger. `folders` by the image's name."""
    too_large = [
        f"{name} has {megabytes(folder):.0f} MB of {most[name]:.0f}"
        for name, folder in folders.items()
        if megabytes(folder) > most[name]
    ]
    if too_large:
        raise ImageError(
            f"larger than they may be: {', '.join(too_large)}; they are built, and stay. See what came in,"
            " or raise what tests/images/sizes.py allows"
        )
