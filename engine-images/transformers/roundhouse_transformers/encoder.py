"""Texts to vectors: by the model, pooled, through the repository's layers, of length one."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel

from roundhouse_engine.handler import Pooling
from roundhouse_engine.torch_memory import vram_bytes
from roundhouse_transformers.bounds import check_length
from roundhouse_transformers.loading import load, pad_with_an_end
from roundhouse_transformers.pooling import declared_pooling, layers, pool
from roundhouse_transformers.repository import Repository
from roundhouse_transformers.settings import Settings

_POOLINGS: Final[dict[Pooling, str]] = {"Mean": "mean", "CLS": "cls", "LastToken": "last_token"}


class Encoder:
    """Called by one thread at a time. `pooling` goes before what the environment and the repository say."""

    def __init__(self, repository: Repository, settings: Settings, pooling: Pooling | None = None) -> None:
        told = _POOLINGS[pooling] if pooling else settings.pooling
        self._pooling = told or declared_pooling(repository) or "mean"
        self._loaded = load(repository, settings, AutoModel)
        pad_with_an_end(repository.name, self._loaded)
        self._layers = layers(repository, self._loaded.device)
        self._loaded.tokenizer.padding_side = "right"  # positions count from the first token
        self.limit_tokens = self._loaded.limit_tokens

    def vram_bytes(self) -> int | None:
        return vram_bytes(self._loaded.model, self._loaded.device)

    def count_tokens(self, text: str) -> int:
        """With those that the tokenizer adds; raises `EngineError` for a text that is far too long."""
        if self.limit_tokens is not None:
            check_length(text, self.limit_tokens, None, "The text is")
        return len(self._loaded.tokenizer(text)["input_ids"])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, width]; float32, whatever the model computes in."""
        read = self._loaded.tokenizer(list(texts), padding=True, return_tensors="pt").to(self._loaded.device)
        with torch.inference_mode():
            hidden = self._loaded.model(**read).last_hidden_state
            vectors = pool(hidden, read["attention_mask"], self._pooling).float()
            for layer in self._layers:
                vectors = layer(vectors)
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return np.asarray(vectors.cpu().numpy(), dtype=np.float32)
