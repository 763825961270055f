"""`python -m tests.bench.engines.libraries.llama_cpp MODEL`: chat by llama.cpp, in its own process."""

import sys
import time
from typing import Any

from tests.bench.engines.libraries import answer
from tests.bench.engines.making import CONTEXT_TOKENS
from tests.bench.engines.texts import MESSAGES, WRITTEN_TOKENS


def main(path: str) -> None:
    import xllamacpp  # noqa: PLC0415 - its import is part of the start

    from roundhouse_engine.cores import available_cores  # noqa: PLC0415 - the same threads

    told = xllamacpp.CommonParams()
    told.model.path = path
    told.n_ctx = CONTEXT_TOKENS
    told.n_parallel = 1
    told.cpuparams.n_threads = told.cpuparams_batch.n_threads = available_cores()
    told.verbosity = 1
    told.warmup = False
    told.fit_params = False
    told.cache_ram_mib = 0
    server = xllamacpp.Server(told)

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

    answer({"call": lambda: len(write()), "first": lambda: write()[0]})


if __name__ == "__main__":
    main(sys.argv[1])
