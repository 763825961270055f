"""Builds the container images of this checkout, without Docker and, if need be, without a registry."""

from .build import build_images, image_folders
from .definitions import IMAGES, Image
from .store import ImageError

__all__ = ["IMAGES", "Image", "ImageError", "build_images", "image_folders"]
