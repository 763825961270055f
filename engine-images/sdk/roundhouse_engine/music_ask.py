"""What a request for music asks for, checked. Fields that it does not know are left alone. Pure."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from roundhouse_engine.errors import invalid
from roundhouse_engine.json_body import Fields
from roundhouse_engine.music import Music

MEDIA_TYPES: Final[Mapping[str, str]] = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "pcm": "audio/pcm",
}
"""The first is what a request without `response_format` gets."""
_SHORTEST, _LONGEST = 0.1, 3600.0
"""Seconds; how much a model makes it says itself."""
_HOTTEST: Final = 4.0
_STRONGEST: Final = 30.0
_STRENGTH: Final = 10.0
_SEED_BITS: Final = 31
"""Of those that are drawn: every client's numbers hold them."""


@dataclass(frozen=True, slots=True)
class MusicAsk:
    """A request for music, checked. `told` is what the runner reads."""

    model: str
    told: Mapping[str, Any]
    format: str
    seed: int
    stream: bool


def read_music(fields: Fields, handler: type[Music], served: tuple[str, ...]) -> MusicAsk:
    """Raises `EngineError` with `param` set."""
    model = fields.model(served)
    prompt = fields.text("prompt")
    if not prompt or not prompt.strip():
        raise invalid("prompt must be a text that describes the music, and not empty.", param="prompt")
    fields.refuse("n", 1, why="n must be 1: send the request as often as you want music.")
    fields.refuse("input", why="Music is made of 'prompt': send the description under that name.")
    if not handler.adapters:
        fields.refuse("adapter", "", why="This engine has no adapters; leave out adapter.")
    seed = fields.integer("seed", 0, (1 << 63) - 1)
    if seed is None:
        seed = secrets.randbits(_SEED_BITS)
    form = fields.choice("response_format", tuple(MEDIA_TYPES))
    told = {
        "prompt": prompt,
        "duration_seconds": fields.number("duration", _SHORTEST, _LONGEST),
        "format": form,
        "options": {
            "seed": seed,
            "temperature": fields.number("temperature", 0, _HOTTEST),
            "top_k": fields.integer("top_k", 0, 1 << 31),
            "top_p": fields.number("top_p", 0, 1),
            "guidance_scale": fields.number("guidance_scale", 1, _STRONGEST),
            "adapter": fields.text("adapter") or None,
            "adapter_strength": fields.number("adapter_strength", 0, _STRENGTH),
        },
    }
    return MusicAsk(model, told, form, seed, fields.flag("stream"))
