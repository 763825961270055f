"""How large the images of the engines are: all layers as they are unpacked."""

from collections.abc import Iterator
from typing import Final

from tests.bench.figure import Figure, Result
from tests.images import IMAGES, ImageError, image_folders
from tests.images.folder import megabytes
from tests.images.sizes import MOST_MB

_SIZES: Final = {
    name: Figure("engines", f"{name}, image", "MB", "lower", budget=MOST_MB[name])
    for name in ("pocketsphinx", "faster-whisper", "llama-cpp", "transformers", "musicgen", "nemo")
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
