"""Which token comes next: the likeliest, or by chance as the client asked; from its own seed.

The library draws from one source of chance for all threads, so a seed would mean nothing beside other
requests. Here the draw is the last of the processors of a request's scores, and leaves one token possible.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from roundhouse_engine import TextOptions
from roundhouse_engine.errors import failed, invalid
from roundhouse_engine.showing import shown
from roundhouse_transformers.grammar import Held
from roundhouse_transformers.strictly import HeldCalls

_ALL: Final = -1
"""As vLLM's clients say `top_k` of all tokens."""
_LEAST_TEMPERATURE: Final = 1e-5
"""What is less is as good as 0, and scores are divided by it."""
_LARGEST: Final = 1e30
"""Scores and what they are divided by stay numbers: a chance that is none ends the process on some GPUs."""


@dataclass(frozen=True, slots=True)
class Chances:
    """0 as temperature: the likeliest. `top_k` 0: of all tokens."""

    temperature: float
    top_p: float
    top_k: int
    frequency_penalty: float
    presence_penalty: float
    seed: int | None


def chances(options: TextOptions, habits: Mapping[str, Any]) -> Chances:
    """As the client says, else as the model's generation_config does; raises `EngineError`."""
    samples = bool(habits.get("do_sample"))
    temperature = options.temperature
    if temperature is None:
        temperature = _number(habits.get("temperature"), 1.0) if samples else 0.0
    top_p, top_k = options.top_p, options.extensions.get("top_k")
    if top_k is not None and (type(top_k) is not int or top_k < _ALL):
        message = f"top_k must be a whole number, 0 or more, or -1 for all tokens, not {shown(top_k)}."
        raise invalid(message, param="top_k")
    if top_k is None:
        top_k = int(_number(habits.get("top_k"), 0)) if samples else 0
    if top_p is None:
        top_p = _number(habits.get("top_p"), 1.0) if samples else 1.0
    return Chances(
        temperature if temperature >= _LEAST_TEMPERATURE else 0.0,
        top_p,
        max(top_k, 0),
        options.frequency_penalty or 0.0,
        options.presence_penalty or 0.0,
        options.seed,
    )


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default


class Draw:
    """The last processor of the scores of one request."""

    def __init__(
        self, chosen: Chances, prompt_tokens: int, device: str, held: Held | HeldCalls | None = None
    ) -> None:
        self._chosen = chosen
        self.held = held
        self._prompt_tokens = prompt_tokens
        self._chance = torch.Generator(device)
        if chosen.seed is None:
            self._chance.seed()
        else:
            self._chance.manual_seed(chosen.seed % (1 << 63))

    def __call__(self, tokens: Any, scores: Any) -> Any:  # noqa: ANN401 - torch has no types here
        chosen = self._chosen
        scores = scores.float()
        if scores.isnan().any():
            raise failed("The model's scores of the next token are no numbers: it needs a larger dtype.")
        scores = scores.clamp(-_LARGEST, _LARGEST)
        written = tokens[0, self._prompt_tokens :]
        if len(written) and (chosen.frequency_penalty or chosen.presence_penalty):
            counts = torch.bincount(written, minlength=scores.shape[-1])[: scores.shape[-1]]
            scores = scores - counts * chosen.frequency_penalty - (counts > 0) * chosen.presence_penalty
        # After all that could lift a token which is not allowed.
        allowed = None if self.held is None else self.held.allowed(scores.device)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, float("-inf"))
        drawn = self._drawn(scores)
        while isinstance(self.held, HeldCalls) and not self.held.fits(int(drawn)):
            scores = scores.scatter(-1, drawn, float("-inf"))
            drawn = self._drawn(scores)
        return torch.full_like(scores, float("-inf")).scatter(-1, drawn, 0.0)

    def _drawn(self, scores: Any) -> Any:  # noqa: ANN401 - torch has no types here
        """[1, 1]: the next token."""
        if not self._chosen.temperature:
            return scores.argmax(-1, keepdim=True)
        below = scores - scores.amax(-1, keepdim=True)
        return torch.multinomial(self._odds(below / self._chosen.temperature), 1, generator=self._chance)

    def _odds(self, scores: Any) -> Any:  # noqa: ANN401 - torch has no types here
        odds, order = torch.softmax(scores, -1).sort(-1, descending=True)
        before = odds.cumsum(-1) - odds
        odds = odds.masked_fill(before > self._chosen.top_p, 0.0)
        if self._chosen.top_k:
            odds[..., self._chosen.top_k :] = 0.0
        return torch.zeros_like(odds).scatter(-1, order, odds)
