"""How much of a prompt is read at once.

What a layer computes of each token is in memory until it has gone through all of them: of 8192 tokens a
gigabyte and more, beside the cache that stays. Before each part a client that has left is noticed.
"""

import threading
from typing import Any, Final

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from roundhouse_transformers.telling import Telling

_TOKENS: Final = 1024
_BEARABLE: Final = (DynamicLayer, DynamicSlidingWindowLayer)


def part_of(model: Any) -> int | None:  # noqa: ANN401 - has no types
    """Tokens of a prompt that the model may read at once; None: all of it, however long.

    One that keeps more than keys and values (a state of its own, as Mamba does) would begin anew with each
    part, and one whose positions are turned by how long the prompt is would turn those of the first parts by
    less: both would say something else without a word.
    """
    # A repository that says nothing of a cache has one.
    cached = model.generation_config.use_cache is not False
    dynamic = getattr(model, "_supports_default_dynamic_cache", bool)()
    if getattr(model, "_is_stateful", False) or not (cached and dynamic):
        return None
    layers = DynamicCache(config=model.config).layers
    whole = _turned_by_length(model.config.get_text_config())
    return _TOKENS if not whole and all(type(layer) in _BEARABLE for layer in layers) else None


def _turned_by_length(config: Any) -> bool:  # noqa: ANN401 - as above
    told = getattr(config, "rope_parameters", None) or {}
    kinds = [each.get("rope_type") or "" for each in (told, *told.values()) if isinstance(each, dict)]
    return any("dynamic" in kind or kind == "longrope" for kind in kinds)


class Looks:
    """Ends the call of a model where the answer that it is for has been left."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - as above
        self._of = threading.local()
        model.register_forward_pre_hook(self._look)

    def of(self, telling: Telling) -> None:
        """From now on this thread calls the model for this answer."""
        self._of.telling = telling

    def _look(self, *_: Any) -> None:  # noqa: ANN401 - of torch
        if (telling := getattr(self._of, "telling", None)) is not None:
            telling.check()
