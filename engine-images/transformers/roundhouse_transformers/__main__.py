"""`python -m roundhouse_transformers KIND`: one kind of models to an engine; without, chat."""

import sys
from typing import Final

from roundhouse_engine import Handler, serve
from roundhouse_transformers.handlers import TransformersChat, TransformersEmbeddings, TransformersRerank
from roundhouse_transformers.speech import TransformersTranscriptions

_KINDS: Final[dict[str, type[Handler]]] = {
    "chat": TransformersChat,
    "embeddings": TransformersEmbeddings,
    "rerank": TransformersRerank,
    "transcriptions": TransformersTranscriptions,
}

if __name__ == "__main__":
    kind, *more = sys.argv[1:] or ("chat",)
    if kind not in _KINDS:
        sys.exit(f"roundhouse engine: transformers serves {', '.join(_KINDS)} here, not {kind!r}.")
    if more:
        sys.exit(f"roundhouse engine: {more[0]!r} after {kind!r} means nothing. Variables set the rest.")
    serve(_KINDS[kind])
