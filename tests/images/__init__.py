"""Builds the container images of this checkout, without Docker and, if need be, without a registry."""

from .build import archive_paths, build_images
from .definitions import IMAGES, Image
from .store import ImageError

__all__ = ["IMAGES", "Image", "ImageError", "archive_paths", "build_images"]
