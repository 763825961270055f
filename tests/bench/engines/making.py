"""Models of base's size with random weights, made on the spot, each kind in a process of its own.

`python -m tests.bench.engines.making KIND FOLDER`: the libraries that it takes stay out of the bench.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.support.torch_base import prepare_torch

CONTEXT_TOKENS: Final = 1024
QUIET: Final = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""For processes that show a person figures, and not what libraries say."""
SPOKEN_WORDS: Final = tuple(f"word{number}" for number in range(12))


def made(kind: str, folder: Path) -> Path:
    prepare_torch()
    command = [sys.executable, "-m", __name__, kind, str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | QUIET)
    return folder


def _whisper(folder: Path) -> None:
    from tests.support.whisper import Whisper, make_whisper  # noqa: PLC0415 - as all of these

    make_whisper(folder, Whisper(says=SPOKEN_WORDS, width=512, layers=6, heads=8, text_tokens=50_000))


def _whisper_of_transformers(folder: Path) -> None:
    from tests.support.whisper import Whisper  # noqa: PLC0415
    from tests.support.whisper_repository import write_whisper  # noqa: PLC0415

    write_whisper(folder, Whisper(says=SPOKEN_WORDS, width=512, layers=6, heads=8, text_tokens=50_000))


def _embeddings(folder: Path) -> None:
    from tests.support.tiny_models import BASE, write_embedder  # noqa: PLC0415

    write_embedder(folder, pooling="mean_tokens", size=BASE)


def _rerank(folder: Path) -> None:
    from tests.support.tiny_models import BASE, write_ranker  # noqa: PLC0415

    write_ranker(folder, size=BASE)


def _chat(folder: Path) -> None:
    from tests.support.tiny_models import BASE, write_writer  # noqa: PLC0415

    chain = ("assistant", "one", "two", "three", "one")
    write_writer(folder, chain, length=CONTEXT_TOKENS, ends=False, size=BASE)


def _music(folder: Path) -> None:
    from tests.support.tiny_models import BASE  # noqa: PLC0415
    from tests.support.tiny_music import write_composer  # noqa: PLC0415

    write_composer(folder, size=BASE)


def _llama(folder: Path) -> None:
    from tests.support.gguf import BASE, write_model  # noqa: PLC0415

    folder.mkdir()
    write_model(folder / "model.gguf", context=CONTEXT_TOKENS, ends=False, size=BASE)


def _nemo(folder: Path) -> None:
    import roundhouse_nemo.restore  # noqa: F401, PLC0415 - it imports NeMo without its warnings
    from tests.support.tiny_nemo import write_listener  # noqa: PLC0415

    write_listener(folder)


_KINDS: Final[Mapping[str, Callable[[Path], None]]] = {
    "whisper": _whisper,
    "whisper-transformers": _whisper_of_transformers,
    "embeddings": _embeddings,
    "rerank": _rerank,
    "chat": _chat,
    "music": _music,
    "llama": _llama,
    "nemo": _nemo,
}

if __name__ == "__main__":
    _KINDS[sys.argv[1]](Path(sys.argv[2]))
