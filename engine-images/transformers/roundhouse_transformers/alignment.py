"""When each word was said: from where the decoder's attention looks while it writes, as Whisper does it.

The tokens are known by then, so one more pass over them shows all looks at once. The library's own way keeps
those of every token while it writes, and follows the path through them one cell of a table after the other
in Python: a second and more for half a minute, in which nobody else computes.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from roundhouse_transformers.vocabulary import TICK_SECONDS, Head, Vocabulary

_SMOOTH: Final = 7
_NO_SPREAD: Final = 1e-6
_DOWN: Final = 1
_RIGHT: Final = 2


class Aligner:
    """Several threads may call it."""

    def __init__(self, model: Any, vocabulary: Vocabulary) -> None:  # noqa: ANN401
        self._decoder = model.model.decoder
        self._vocabulary = vocabulary
        self._heads = vocabulary.alignment_heads or _upper_half(model.config)
        self._own = threading.local()
        for layer in {layer for layer, _ in self._heads}:
            attention = self._decoder.layers[layer].encoder_attn
            for part in ("q_proj", "k_proj"):
                getattr(attention, part).register_forward_hook(self._keep(layer, part))

    def times(
        self, sound: torch.Tensor, opening: Sequence[int], text: Sequence[int], seconds: float
    ) -> list[float]:
        """When each token of the text begins, and then when the last one ends, within so many seconds.

        `opening` is that of an answer without time stamps, and without what may be told before it.
        """
        tokens = torch.tensor([[*opening, *text, self._vocabulary.end]], device=sound.device)
        ticks = min(max(round(seconds / TICK_SECONDS), 1), len(sound))
        with torch.inference_mode(), self._watching() as seen:
            self._decoder(input_ids=tokens, encoder_hidden_states=sound[None], use_cache=False)
            table = torch.zeros(tokens.shape[1], ticks, dtype=torch.float64, device=sound.device)
            for layer, head in self._heads:  # hundreds where none are named: all at once take gigabytes
                table += _sharpened(self._look(seen[layer], layer, head, ticks))
        # What looks at a token's place is the one before it, by which it is told.
        starts = first_columns(-table[len(opening) - 1 : -1].cpu().numpy())
        return [min(float(tick) * TICK_SECONDS, seconds) for tick in starts]

    def _look(self, seen: dict[str, torch.Tensor], layer: int, head: int, ticks: int) -> torch.Tensor:
        """How much each token, by rows, looks at each place of the sound's beginning."""
        attention = self._decoder.layers[layer].encoder_attn
        part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
        query, key = seen["q_proj"][0, :, part].float(), seen["k_proj"][0, :ticks, part].float()
        return (query @ key.T * attention.scaling).softmax(-1)

    @contextmanager
    def _watching(self) -> Iterator[dict[int, dict[str, torch.Tensor]]]:
        self._own.seen = defaultdict(dict)
        try:
            yield self._own.seen
        finally:
            del self._own.seen

    def _keep(self, layer: int, part: str) -> Any:  # noqa: ANN401 - a hook of torch's
        def hook(_module: object, _given: object, output: torch.Tensor) -> None:
            seen = getattr(self._own, "seen", None)  # of this thread: others decode meanwhile
            if seen is not None:
                seen[layer][part] = output

        return hook


def _upper_half(config: Any) -> tuple[Head, ...]:  # noqa: ANN401
    """Where nothing says which heads look at what is said, as in Whisper's own code."""
    layers = range(config.decoder_layers // 2, config.decoder_layers)
    return tuple((layer, head) for layer in layers for head in range(config.decoder_attention_heads))


def _sharpened(looks: torch.Tensor) -> torch.Tensor:
    """What stands out among the tokens, without single peaks; both are of [tokens, places]."""
    spread = looks.std(-2, keepdim=True, unbiased=False).clamp_min(_NO_SPREAD)
    apart = (looks - looks.mean(-2, keepdim=True)) / spread
    side = _SMOOTH // 2
    if apart.shape[-1] > side:
        padded = torch.nn.functional.pad(apart, (side, side), mode="reflect")
        apart = padded.unfold(-1, _SMOOTH, 1).median(-1).values
    return apart


def first_columns(costs: NDArray[np.float64]) -> list[int]:
    """Of the cheapest path from the first cell to the last: the column at which it comes to each row.

    Each step is down, right or both. All cells of a diagonal are computed at once.
    """
    rows, columns = costs.shape
    at_row, at_column = np.indices(costs.shape)
    diagonals = np.full((rows + columns - 1, rows), np.inf)
    diagonals[at_row + at_column, at_row] = costs
    came = np.zeros(diagonals.shape, np.int8)
    before, last = np.full(rows + 1, np.inf), np.full(rows + 1, np.inf)
    before[0] = 0.0
    for number, diagonal in enumerate(diagonals):
        ways = np.stack([before[:-1], last[:-1], last[1:]])
        came[number] = ways.argmin(0)
        before, last = last, np.concatenate([[np.inf], diagonal + ways.min(0)])
    firsts = [0] * rows
    row, column = rows - 1, columns - 1
    while row >= 0 and column >= 0:
        firsts[row] = column
        way = came[row + column, row]
        row, column = row - (way != _RIGHT), column - (way != _DOWN)
    return firsts
