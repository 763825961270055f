"""How large the images of the engines are: all layers as they are unpacked."""

from collections.abc import Iterator, Mapping
from typing import Final

from tests.bench.figure import Figure, Result
from tests.images import IMAGES, ImageError, image_folders
from tests.images.folder import megabytes

_MOST_MB: Final[Mapping[str, float]] = {
    "pocketsphinx": 350,
    "faster-whisper": 750,
    "llama-cpp": 450,
    "transformers": 1900,
    "musicgen": 1900,
    "nemo": 2500,
}
_SIZES: Final = {
    name: Figure("engines", f"{name}, image", "MB", "lower", budget=most) for name, most in _MOST_MB.items()
}
FIGURES: Final = tuple(_SIZES.values())


def measure() -> Iterator[Result]:
    """Of those that are built as the sources are now; `make bench` builds them before it measures."""
    for image in IMAGES:
        if image.name not in _SIZES:
            continue
        try:
            folder = image_folders([image])[image.name]
        except ImageError as error:
            print(f"{image.name}: {error}", flush=True)
            continue
        yield Result(_SIZES[image.name], megabytes(folder))
