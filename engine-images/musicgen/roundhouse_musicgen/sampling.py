"""How tokens are chosen, one of each codebook: guided by the prompt, drawn by the request's seed."""

from collections.abc import Mapping
from typing import Any, Final

import torch

from roundhouse_engine import MusicOptions
from roundhouse_transformers.sampling import Chances, Draw

_TOP_K: Final = 250
_GUIDANCE: Final = 3.0
"""What MusicGen's authors sample with, where its repository says nothing."""
_LEAST_TEMPERATURE: Final = 1e-5
_NEVER: Final = -1e30
"""A score as good as none. The library subtracts scores, and infinity less infinity is no number."""


def guidance(options: MusicOptions, habits: Mapping[str, Any]) -> float:
    """How much more the prompt weighs; 1: no more."""
    said = options.guidance_scale if options.guidance_scale is not None else habits.get("guidance_scale")
    return float(said) if isinstance(said, int | float) else _GUIDANCE


def chances(options: MusicOptions, habits: Mapping[str, Any]) -> Chances:
    """As the client says, else as the model's generation_config does, else as its authors."""
    temperature = _first(options.temperature, habits.get("temperature"), 1.0)
    return Chances(
        temperature if temperature >= _LEAST_TEMPERATURE else 0.0,
        _first(options.top_p, habits.get("top_p"), 1.0),
        int(_first(options.top_k, habits.get("top_k"), _TOP_K)),
        frequency_penalty=0.0,
        presence_penalty=0.0,
        seed=options.seed,
    )


def _first(*said: object) -> float:
    return next(float(each) for each in said if isinstance(each, int | float))


class GuidedDraw:
    """The first processor of a request's scores; it leaves one token of each codebook possible.

    With guidance the scores come twice, with the prompt and without. The library puts them together after all
    others' processors, too late to draw: so it is done here, and the same draw twice leaves it nothing to do.
    """

    def __init__(self, chosen: Chances, scale: float, device: str) -> None:
        self._scale = scale
        self._draw = Draw(chosen, 0, device)

    def __call__(self, tokens: Any, scores: Any) -> Any:  # noqa: ANN401 - torch has no types here
        if self._scale <= 1:
            return self._draw(tokens, scores)
        prompted, free = scores.float().chunk(2)
        drawn = self._draw(tokens, free + (prompted - free) * self._scale)
        return torch.cat([drawn, drawn]).clamp(min=_NEVER)
