"""Pictures of a conversation: out of `data:` URLs, bounded, upright and in eight bits of red, green and blue.

Nothing is fetched: an engine that asked for addresses would do so for anybody. What a picture says of itself
is checked before it is decoded, because a few bytes can stand for gigabytes.
"""

import base64
import binascii
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps

from roundhouse_engine import Cancellation
from roundhouse_engine.errors import EngineError, invalid, memory_is_short, no_memory_left
from roundhouse_engine.showing import shown

_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_BYTES: Final = 20 << 20
_PIXELS: Final = 32_000_000
"""Of all pictures of a request: decoded they take three bytes each, and eight while they are made plain."""
_MOST: Final = 32
_SIDES: Final = 1 << 16
_RATIO: Final = 200
"""Of the sides: some models want the shorter one at a size of theirs, which makes a strip of any length."""
_LOW: Final = 512
"""Each side at most, of a picture of which the client wants little seen: OpenAI's `detail`."""
_DETAILS: Final = ("auto", "low", "high")
_DATA: Final = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+-]+=[^;,]*)*;base64,", re.IGNORECASE)

Message = Mapping[str, Any]


def without_pictures(
    messages: Sequence[Message], cancellation: Cancellation
) -> tuple[list[dict[str, Any]], list[Any]]:
    """The messages, with a mark where each picture stands, and the pictures in their order.

    Raises `EngineError` for one that is none, too large, or not in the request itself.
    """
    told: list[dict[str, Any]] = []
    pictures: list[Any] = []
    pixels = 0
    for at, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, list):
            parts: list[dict[str, Any]] = []
            for number, part in enumerate(content):
                if part["type"] != "image_url":
                    parts.append({"type": "text", "text": part[part["type"]]})
                    continue
                cancellation.check()
                where = f"messages[{at}].content[{number}]"
                if len(pictures) == _MOST:
                    raise _wrong(f"{where} is one picture too many: {_MOST} are taken. Send fewer.")
                picture = _picture(where, part["image_url"], _PIXELS - pixels)
                pixels += picture.width * picture.height
                pictures.append(picture)
                parts.append({"type": "image"})
            content = parts
        told.append({**message, "content": content})
    return told, pictures


def has_pictures(messages: Sequence[Message]) -> bool:
    """The SDK leaves lists of parts only where one of them is a picture."""
    return any(isinstance(message.get("content"), list) for message in messages)


def in_parts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The same for templates that take no content but lists of parts."""
    return [
        {**message, "content": [{"type": "text", "text": content}] if isinstance(content, str) else content}
        for message in messages
        for content in [message.get("content") or ""]
    ]


def _picture(where: str, told: Mapping[str, Any], room: int) -> Image.Image:
    """`room`: pixels that the request has left."""
    detail = told.get("detail") or "auto"
    if detail not in _DETAILS:
        raise _wrong(f"{where}.image_url.detail must be one of {', '.join(_DETAILS)}, not {shown(detail)}.")
    try:
        with Image.open(io.BytesIO(_bytes(where, told["url"])), formats=_FORMATS) as opened:
            _check(where, opened, room)
            picture = _plain(opened)
            if detail == "low":
                picture.thumbnail((_LOW, _LOW))
            return picture
    except EngineError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(where, f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,}") from None
    except Exception as error:  # decoders have their own kinds, and each says that the file is at fault
        if memory_is_short(error):
            raise no_memory_left() from error
        raise _wrong(
            f"{where} cannot be read as a picture: it is damaged, or none of {', '.join(_FORMATS)}."
        ) from error


def _bytes(where: str, url: str) -> bytes:
    found = _DATA.match(url)
    if found is None:
        raise _wrong(
            f"{where}.image_url.url must hold the picture itself, as data:image/png;base64,…, not "
            f"{shown(url)}: nothing is fetched here.",
            code="unsupported_value",
        )
    if (len(url) - found.end()) * 3 // 4 > _BYTES:
        raise _wrong(f"{where} is a picture of more than {_BYTES >> 20} MiB. Make it smaller.")
    try:
        return base64.b64decode(url[found.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong(f"{where}.image_url.url is no base64: {error}.") from None


def _check(where: str, picture: Image.Image, room: int) -> None:
    size = picture.width * picture.height
    if size > _PIXELS or max(picture.size) >= _SIDES:
        raise _too_large(where, f"{picture.width} x {picture.height}")
    if size > room:
        raise _wrong(f"{where}: the pictures have more than {_PIXELS:,} pixels in all. Send fewer.")
    if max(picture.size) > _RATIO * min(picture.size):
        raise _wrong(f"{where} is more than {_RATIO} times as long as wide. Cut it.")
    # What a camera keeps beside a photograph (MPO) is no motion.
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        raise _wrong(f"{where} is an animated picture. Send one of its frames.", code="unsupported_value")


def _plain(picture: Image.Image) -> Image.Image:
    """Decoded; as it is to be looked at; what is transparent is white."""
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):  # sixteen bits of grey, which `convert` would cut off at 255
        grey = (np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    clear = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    white = Image.new("RGB", clear.size, "white")
    white.paste(clear, mask=clear.getchannel("A"))
    return white


def _too_large(where: str, size: str) -> EngineError:
    return _wrong(f"{where} is a picture of {size} pixels; {_PIXELS:,} are taken. Make it smaller.")


def _wrong(message: str, code: str = "invalid_value") -> EngineError:
    return invalid(message, param="messages", code=code)
