"""`python -m tests.bench.engines.libraries.llama_cpp KIND MODEL`: chat or embeddings, in its own process."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from tests.bench.engines.libraries import answer
from tests.bench.engines.making import CONTEXT_TOKENS
from tests.bench.engines.texts import CHATS, MESSAGES, SHORT, WRITTEN_TOKENS

Works = Mapping[str, Callable[[], object]]

_TEXTS_AT_ONCE: Final = 4
"""As the engine has it."""


def _told(path: str, parallel: int) -> Any:
    import xllamacpp  # noqa: PLC0415 - its import is part of the start

    from roundhouse_engine.cores import available_cores  # noqa: PLC0415 - the same threads

    told = xllamacpp.CommonParams()
    told.model.path = path
    told.n_ctx = parallel * CONTEXT_TOKENS
    told.n_parallel = parallel
    told.cpuparams.n_threads = told.cpuparams_batch.n_threads = available_cores()
    told.verbosity = 1
    told.warmup = False
    told.fit_params = False
    told.cache_ram_mib = 0
    return told


def _chat(path: str) -> Works:
    import xllamacpp  # noqa: PLC0415

    server = xllamacpp.Server(_told(path, CHATS))

    def write() -> list[float]:
        began = time.monotonic()
        came: list[float] = []

        def hear(chunk: dict[str, Any]) -> bool:
            if any(choice.get("delta", {}).get("content") for choice in chunk.get("choices", ())):
                came.append(time.monotonic() - began)
            return False

        asked = {"messages": MESSAGES, "max_tokens": WRITTEN_TOKENS, "temperature": 0, "stream": True}
        server.handle_chat_completions(asked, hear)
        return came

    def batch() -> int:
        """As many at once as it has slots: it puts them together itself."""
        with ThreadPoolExecutor(CHATS) as writers:
            return sum(len(came) for came in writers.map(lambda _: write(), range(CHATS)))

    return {"call": lambda: len(write()), "first": lambda: write()[0], "batch": batch}


def _embeddings(path: str) -> Works:
    import xllamacpp  # noqa: PLC0415

    told = _told(path, _TEXTS_AT_ONCE)
    told.embedding = True
    told.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    told.n_batch = told.n_ubatch = CONTEXT_TOKENS
    server = xllamacpp.Server(told)

    def embed(texts: Sequence[str]) -> int:
        return len(server.handle_embeddings({"input": list(texts)})["data"])

    return {"call": lambda: embed(SHORT), "batch": lambda: embed(SHORT)}


if __name__ == "__main__":
    kinds = {"chat": _chat, "embeddings": _embeddings}
    answer(kinds[sys.argv[1]](sys.argv[2]))
