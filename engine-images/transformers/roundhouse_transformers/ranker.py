"""Queries and documents to scores: by a model that reads both together and says how well they fit."""

from collections.abc import Sequence

import torch
from transformers import AutoModelForSequenceClassification

from roundhouse_engine import ModelError
from roundhouse_engine.torch_memory import vram_bytes
from roundhouse_transformers.bounds import counted
from roundhouse_transformers.loading import load
from roundhouse_transformers.repository import Repository
from roundhouse_transformers.settings import Settings


class Ranker:
    """Called by one thread at a time."""

    def __init__(self, repository: Repository, settings: Settings) -> None:
        self._loaded = load(repository, settings, AutoModelForSequenceClassification)
        self._labels = int(self._loaded.model.config.num_labels)
        if self._labels not in (1, 2):
            raise ModelError(
                f"{repository.name!r} tells {self._labels} classes apart: a model that ranks has one number "
                "for a pair, or two for no and yes."
            )
        if self._loaded.tokenizer.pad_token is None:
            # The library finds a pair's last token by it, so none of the others can stand for it.
            raise ModelError(
                f"{repository.name!r}: its tokenizer names no pad_token, without which pairs of different "
                "lengths cannot be ranked together. Add the one that it was trained with."
            )
        self._loaded.tokenizer.padding_side = "right"  # positions count from the first token
        # A configuration may name another token than the one that is padded with, or none.
        config = self._loaded.model.config
        for each in (config, config.get_text_config()):
            each.pad_token_id = self._loaded.tokenizer.pad_token_id
        self.limit_tokens = self._loaded.limit_tokens

    def vram_bytes(self) -> int | None:
        return vram_bytes(self._loaded.model, self._loaded.device)

    def count_tokens(self, text: str) -> int:
        """With those that the tokenizer adds: a pair has a few less than its parts together."""
        return counted(self._loaded.tokenizer, text, self.limit_tokens)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """From 0 to 1."""
        queries, documents = [query for query, _ in pairs], [document for _, document in pairs]
        read = self._loaded.tokenizer(queries, documents, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits = self._loaded.model(**read.to(self._loaded.device)).logits.float()
            scores = torch.sigmoid(logits[:, 0]) if self._labels == 1 else torch.softmax(logits, -1)[:, 1]
        return [float(score) for score in scores.cpu()]
