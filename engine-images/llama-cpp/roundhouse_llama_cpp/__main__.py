"""`python -m roundhouse_llama_cpp [chat|embeddings]`: what is made of the models, one kind to an engine."""

import sys
from typing import Final

from roundhouse_engine import Handler, serve
from roundhouse_llama_cpp.chat import LlamaChat
from roundhouse_llama_cpp.embeddings import LlamaEmbeddings

_KINDS: Final[dict[str, type[Handler]]] = {"chat": LlamaChat, "embeddings": LlamaEmbeddings}

if __name__ == "__main__":
    kind = sys.argv[1] if len(sys.argv) > 1 else "chat"
    if kind not in _KINDS:
        sys.exit(f"roundhouse engine: llama.cpp serves {' or '.join(_KINDS)} here, not {kind!r}.")
    serve(_KINDS[kind])
