"""The engine's three kinds of models, as the SDK sees them; what computes is imported when one loads."""

import os
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    Chat,
    Conversation,
    Embedding,
    ModelSpec,
    Rerank,
    TextOptions,
)
from roundhouse_engine.text import Text, Writing
from roundhouse_transformers.repository import open_repository
from roundhouse_transformers.settings import read_settings

if TYPE_CHECKING:
    from roundhouse_transformers.encoder import Encoder
    from roundhouse_transformers.ranker import Ranker
    from roundhouse_transformers.writer import Writer

Progress = Callable[[float], None]


class TransformersChat(Chat):
    thread_safe = True
    capacity = 4
    completions = True
    tools = True
    images = True
    penalties = True
    response_formats: ClassVar[frozenset[str]] = frozenset({"json_object", "json_schema"})
    extensions: ClassVar[frozenset[str]] = frozenset({"top_k", "chat_template_kwargs"})
    imports = ("roundhouse_transformers.writer",)

    _writer: "Writer"

    @override
    def load(self, model: ModelSpec, progress: Progress) -> None:
        settings, repository = read_settings(os.environ), open_repository(model, progress)
        from roundhouse_transformers.writer import Writer  # noqa: PLC0415 - see the package

        self._writer = Writer(repository, settings)

    @override
    def warm_up(self) -> None:
        for _ in self._writer.complete(".", TextOptions(max_tokens=2), Cancellation()):  # the prompt, a step
            pass

    @override
    def unload(self) -> None:
        del self._writer

    @override
    def vram_bytes(self) -> int | None:
        return self._writer.vram_bytes()

    @override
    def chat(self, conversation: Conversation, options: TextOptions, cancellation: Cancellation) -> Writing:
        return self._writer.chat(conversation, options, cancellation)

    @override
    def complete(self, prompt: Text, options: TextOptions, cancellation: Cancellation) -> Writing:
        return self._writer.complete(prompt, options, cancellation)


class TransformersEmbeddings(Embedding):
    shortened = True
    imports = ("roundhouse_transformers.encoder",)

    _encoder: "Encoder"

    @override
    def load(self, model: ModelSpec, progress: Progress) -> None:
        settings, repository = read_settings(os.environ), open_repository(model, progress)
        from roundhouse_transformers.encoder import Encoder  # noqa: PLC0415 - see the package

        self._encoder = Encoder(repository, settings, model.pooling)

    @override
    def warm_up(self) -> None:
        self._encoder.embed(["."])

    @override
    def unload(self) -> None:
        del self._encoder

    @override
    def vram_bytes(self) -> int | None:
        return self._encoder.vram_bytes()

    @override
    def count_tokens(self, text: str) -> int:
        return self._encoder.count_tokens(text)

    @override
    def limit_tokens(self) -> int | None:
        return self._encoder.limit_tokens

    @override
    def embed(self, texts: Sequence[Text], cancellation: Cancellation) -> Collection[Collection[float]]:
        cancellation.check()
        return self._encoder.embed([str(text) for text in texts])


class TransformersRerank(Rerank):
    imports = ("roundhouse_transformers.ranker",)

    _ranker: "Ranker"

    @override
    def load(self, model: ModelSpec, progress: Progress) -> None:
        settings, repository = read_settings(os.environ), open_repository(model, progress)
        from roundhouse_transformers.ranker import Ranker  # noqa: PLC0415 - see the package

        self._ranker = Ranker(repository, settings)

    @override
    def warm_up(self) -> None:
        self._ranker.score([(".", "."), (".", ". .")])

    @override
    def unload(self) -> None:
        del self._ranker

    @override
    def vram_bytes(self) -> int | None:
        return self._ranker.vram_bytes()

    @override
    def count_tokens(self, text: str) -> int:
        return self._ranker.count_tokens(text)

    @override
    def limit_tokens(self) -> int | None:
        return self._ranker.limit_tokens

    @override
    def score(self, pairs: Sequence[tuple[str, str]], cancellation: Cancellation) -> Collection[float]:
        cancellation.check()
        return self._ranker.score(pairs)
