"""The engine of llama.cpp where memory is short: of a process, and within a request that says so."""

import resource
import sys
from typing import Any, Final

from typing_extensions import override

from roundhouse_engine import serve
from roundhouse_llama_cpp.chat import LlamaChat
from roundhouse_llama_cpp.embeddings import LlamaEmbeddings

ADDRESSES_BYTES: Final = 64 << 30
"""Of each process; threads alone have stacks of half a GiB, of which next to nothing is used."""
TOO_MUCH: Final = "too much for the memory"


class Server:
    """llama.cpp's, which says of its texts what it says where C++ finds no memory."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def handle_chat_completions(self, request: Any, hear: Any) -> Any:
        if TOO_MUCH in str(request):
            raise MemoryError("std::bad_alloc")
        return self._server.handle_chat_completions(request, hear)

    def handle_embeddings(self, request: Any) -> Any:
        if TOO_MUCH in str(request):
            return {"error": {"code": 500, "type": "server_error", "message": "std::bad_alloc"}}
        return self._server.handle_embeddings(request)


class Chat(LlamaChat):
    @override
    def load(self, *told: Any) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES_BYTES, ADDRESSES_BYTES))
        super().load(*told)
        self._llama.server = Server(self._llama.server)


class Embeddings(LlamaEmbeddings):
    @override
    def load(self, *told: Any) -> None:
        super().load(*told)
        self._llama.server = Server(self._llama.server)


if __name__ == "__main__":
    serve(Chat if sys.argv[1] == "chat" else Embeddings)
