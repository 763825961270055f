"""`python -m roundhouse_llama_cpp [chat|embeddings]`: what is made of the models, one kind to an engine."""

import sys
from typing import Final

from roundhouse_engine import Handler, serve
from roundhouse_llama_cpp.chat import LlamaChat
from roundhouse_llama_cpp.embeddings import LlamaEmbeddings

_KINDS: Final[dict[str, type[Handler]]] = {"chat": LlamaChat, "embeddings": LlamaEmbeddings}

if __name__ == "__main__":
    kind, *more = sys.argv[1:] or ("chat",)
    if kind not in _KINDS:
        sys.exit(f"roundhouse engine: llama.cpp serves {' or '.join(_KINDS)} here, not {kind!r}.")
    if more:
        sys.exit(f"roundhouse engine: {more[0]!r} after {kind!r} means nothing. Variables set the rest.")
    serve(_KINDS[kind])
