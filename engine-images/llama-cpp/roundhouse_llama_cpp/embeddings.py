"""Embeddings: vectors of length one, pooled as the model says, many texts in one call of llama.cpp."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from typing_extensions import override

from roundhouse_engine import Cancellation, Embedding, Isolation, ModelError, ModelSpec
from roundhouse_engine.handler import Pooling
from roundhouse_engine.text import Text
from roundhouse_llama_cpp.llama import Llama, problem
from roundhouse_llama_cpp.settings import read_settings
from roundhouse_llama_cpp.weights import find_weights, read_through

_CONTEXT_TOKENS: Final = 2048
_PARALLEL: Final = 4
"""Texts that are read together; the SDK's capacity is of requests, which is something else here."""
_POOLINGS: Final[dict[Pooling, str]] = {"Mean": "mean", "CLS": "cls", "LastToken": "last"}
_ASKED: Final = 8
"""Texts of one call, which nothing ends: as many as take no longer by it than all of a batch."""


class LlamaEmbeddings(Embedding):
    isolation = Isolation.PROCESS
    thread_safe = True
    token_ids = True
    batch_tokens = 4096  # so many are soon read, and who left is waited for
    cancel_seconds = 60.0  # of one long text a processor computes on for longer than the usual ten

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        settings = read_settings(os.environ, context_tokens=_CONTEXT_TOKENS, parallel=_PARALLEL)
        told = _POOLINGS[model.pooling] if model.pooling else settings.pooling
        settings = replace(settings, parallel=_PARALLEL, pooling=told)
        weights = find_weights(model.name, model.path)
        read_through(weights, progress)
        self._llama = Llama(model.name, weights, settings, embedding=True)
        found = self._ask(["a"])
        if "error" in found and settings.pooling is None:
            # A model that was made to write says nothing of how its tokens' vectors become one.
            del self._llama  # there need be no room for two
            self._llama = Llama(model.name, weights, replace(settings, pooling="mean"), embedding=True)
            found = self._ask(["a"])
        if "error" in found:
            raise ModelError(f"{model.name!r} makes no vectors: {found['error'].get('message')}")

    @override
    def unload(self) -> None:
        del self._llama

    @override
    def vram_bytes(self) -> int | None:
        return self._llama.vram_bytes

    @override
    def count_tokens(self, text: str) -> int:
        return self._llama.count_tokens(text)

    @override
    def limit_tokens(self) -> int | None:
        return self._llama.context_tokens

    @override
    def embed(self, texts: Sequence[Text], cancellation: Cancellation) -> Collection[Collection[float]]:
        vectors: list[Collection[float]] = []
        for at in range(0, len(texts), _ASKED):
            cancellation.check()
            asked = texts[at : at + _ASKED]
            found = self._ask([text if isinstance(text, str) else list(text) for text in asked])
            if "error" in found:
                raise problem(found["error"], "input")
            ordered = sorted(found["data"], key=lambda each: int(each["index"]))
            vectors += [each["embedding"] for each in ordered]
        return vectors

    def _ask(self, texts: list[str | list[int]]) -> dict[str, Any]:
        answer: dict[str, Any] = self._llama.server.handle_embeddings({"input": texts})
        return answer
