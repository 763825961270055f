"""The engines that compute on a GPU, each with a tiny model, and a question that any device answers alike."""

import asyncio
import base64
import contextlib
import importlib.util
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from PIL import Image

from tests.conformance.engine.nemo_engine import made_models, speech
from tests.conformance.engine.running import Engine, running
from tests.conformance.engine.streaming import final_texts, heard_live
from tests.conformance.engine.test_models_file import Shared
from tests.support.gguf import write_model
from tests.support.recordings import GO_FORWARD_WORDS, WEATHER_WORDS, go_forward, wav
from tests.support.torch_base import prepare_torch
from tests.support.waiting import wait_until
from tests.support.whisper import make_whisper

DEVICE: Final = os.environ.get("ROUNDHOUSE_TEST_DEVICE", "cuda")
READY_SECONDS: Final = 300.0
_PACE: Final = 4.0
"""Times as fast as people speak."""
_TWO: Final = ((GO_FORWARD_WORDS, WEATHER_WORDS), (WEATHER_WORDS, GO_FORWARD_WORDS))
TEXTS: Final = ["one two three", "w1", "count w2 w3 w4 w5 w6 w7"]


@dataclass(frozen=True)
class Case:
    """An engine: how it is started, what makes its model, and how it is asked."""

    id: str
    arguments: tuple[str, ...]
    make: Callable[[Path], Path]
    ask: Callable[[Engine, str], Any]
    """With the model's name; text, or numbers."""
    on_a_gpu: Mapping[str, str] = field(default_factory=dict)
    """What is set there beside the device."""


class Serving(Shared):
    """One engine process on a device, following a file that names its models."""

    def want_models(self, **folders: Path) -> None:
        self.generation += 1
        models = [
            {"name": name, "path": str(path), "source": {"type": "HuggingFace"}}
            for name, path in folders.items()
        ]
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps({"generation": self.generation, "models": models}))
        fresh.rename(self.file)

    def until_told(self, **states: str) -> None:
        """Until exactly these models are there, in these states."""

        def reached() -> bool:
            told = self.told
            found = {model["id"]: model["state"] for model in told["data"]}
            return bool(told["generation"] == self.generation and found == states)

        wait_until(reached, seconds=READY_SECONDS, what=f"{states}; log:\n{self.engine.logged}", every=0.2)


@contextlib.contextmanager
def serving(case: Case, device: str, folder: Path, **variables: str) -> Iterator[Serving]:
    """The engine as its container runs it, without a model yet."""
    folder.mkdir()
    file = folder / "models.json"
    told = {
        "ROUNDHOUSE_MODELS_FILE": str(file),
        "ROUNDHOUSE_DEVICE": device,
        "MODELS": "",
        "OMP_NUM_THREADS": "1",
        # The libraries' many files are compiled once and not by each engine.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONWARNINGS": "default",
        **(case.on_a_gpu if device == "cuda" else {}),
    }
    with running(case.arguments, folder, **told | variables) as engine:
        yield Serving(engine, file)


def write_embedder(folder: Path, **changed: int) -> Path:
    """A tiny one, or larger where told."""
    prepare_torch()
    import transformers  # noqa: PLC0415 - torch loads only now

    from tests.support import tiny_models  # noqa: PLC0415

    tiny_models.write_embedder(folder)
    if changed:
        config = transformers.AutoConfig.from_pretrained(folder, **changed)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


def write_writer(folder: Path) -> Path:
    prepare_torch()
    from tests.support import tiny_models  # noqa: PLC0415 - torch loads only now

    return tiny_models.write_writer(folder)


def write_ranker(folder: Path) -> Path:
    prepare_torch()
    from tests.support import tiny_models  # noqa: PLC0415 - torch loads only now

    return tiny_models.write_ranker(folder)


def write_seer(folder: Path) -> Path:
    prepare_torch()
    from tests.support import tiny_seers  # noqa: PLC0415 - torch loads only now

    return tiny_seers.write_qwen(folder)


def write_whisper(folder: Path) -> Path:
    prepare_torch()
    from tests.support import whisper_repository  # noqa: PLC0415 - torch loads only now

    return whisper_repository.write_whisper(folder)


def write_composer(folder: Path) -> Path:
    prepare_torch()
    from tests.support import tiny_music  # noqa: PLC0415 - torch loads only now

    return tiny_music.write_composer(folder)


def made_listener(kind: str) -> Callable[[Path], Path]:
    """NeMo's are made once for all tests."""
    return lambda _folder: made_models() / kind


def said() -> bytes:
    return wav(speech(GO_FORWARD_WORDS))


def write_gguf(folder: Path) -> Path:
    folder.mkdir()
    return write_model(folder / "tiny.gguf").parent


def text_of(recording: Callable[[], bytes], **fields: str) -> Callable[[Engine, str], str]:
    def ask(engine: Engine, model: str) -> str:
        answer = engine.post(recording(), model=model, **fields)
        assert answer.status == 200, answer.body
        return str(answer.json["text"])

    return ask


def live_text_of(*orders: tuple[str, ...], **query: str) -> Callable[[Engine, str], str]:
    """What each of some who speak at once is heard to say, one a line; `orders`: what they say."""

    async def each(engine: Engine, model: str) -> str:
        told = {"model": model, **query}
        sessions = [heard_live(engine.port, speech(*said), pace=_PACE, **told) for said in orders]
        return "\n".join(" | ".join(final_texts(stream)) for stream in await asyncio.gather(*sessions))

    def ask(engine: Engine, model: str) -> str:
        engine.until_ready(sessions=len(orders))
        return asyncio.run(each(engine, model))

    return ask


def post(engine: Engine, path: str, **fields: Any) -> bytes:
    answer = engine.request("POST", path, json.dumps(fields), {"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    return answer.body


def vectors(engine: Engine, model: str) -> Any:
    """[texts, dimensions]"""
    found = json.loads(post(engine, "/v1/embeddings", model=model, input=TEXTS))
    return np.array([one["embedding"] for one in found["data"]])


def chat(engine: Engine, model: str) -> str:
    messages = [{"role": "user", "content": "count"}]
    said = json.loads(
        post(engine, "/v1/chat/completions", model=model, messages=messages, temperature=0, max_tokens=16)
    )
    return str(said["choices"][0]["message"]["content"])


def scores(engine: Engine, model: str) -> Any:
    """[texts], in the texts' order."""
    found = json.loads(post(engine, "/v1/rerank", model=model, query="count", documents=TEXTS))
    return np.array(
        [one["relevance_score"] for one in sorted(found["results"], key=lambda one: one["index"])]
    )


def seen(engine: Engine, model: str) -> str:
    """What it says of a picture, from its first token on."""
    part = {"type": "image_url", "image_url": {"url": PICTURE}}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "What is it?"}]}]
    told = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 4}
    return str(json.loads(post(engine, "/v1/chat/completions", **told))["choices"][0]["message"]["content"])


def music(engine: Engine, model: str) -> Any:
    """[samples] of the likeliest music: what is drawn by chance is another on each device."""
    asked = {"prompt": "one two", "duration": 0.5, "temperature": 0, "seed": 1}
    with av.open(io.BytesIO(post(engine, "/v1/music/generations", model=model, **asked)), "r") as container:
        return np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)]) / 32768


def libraries(package: str) -> str:
    """A search path with those of NVIDIA's package: engines without torch have nothing that finds them."""
    found = importlib.util.find_spec("nvidia")
    folders = [
        f"{path}/{package}/lib" for path in (found.submodule_search_locations if found else None) or ()
    ]
    return ":".join(filter(None, [*folders, os.environ.get("LD_LIBRARY_PATH")]))


def picture() -> str:
    """The URL of half a red one."""
    made, written = Image.new("RGB", (84, 56), "red"), io.BytesIO()
    made.paste("white", (0, 0, 42, 56))
    made.save(written, "png")
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"


PICTURE: Final = picture()
WHISPER_ON_A_GPU: Final = {"ROUNDHOUSE_COMPUTE_TYPE": "float16", "LD_LIBRARY_PATH": libraries("cublas")}
LLAMA_ON_A_GPU: Final = {"ROUNDHOUSE_LLAMA_GPU_LAYERS": "99", "LD_LIBRARY_PATH": libraries("cu13")}
CASES: Final = (
    Case(
        "faster-whisper",
        ("-m", "roundhouse_faster_whisper"),
        make_whisper,
        text_of(go_forward),
        WHISPER_ON_A_GPU,
    ),
    Case(
        "faster-whisper-live",
        ("-m", "roundhouse_faster_whisper"),
        make_whisper,
        live_text_of(*_TWO, language="en"),
        WHISPER_ON_A_GPU,
    ),
    Case("transformers-embeddings", ("-m", "roundhouse_transformers", "embeddings"), write_embedder, vectors),
    Case("transformers-rerank", ("-m", "roundhouse_transformers", "rerank"), write_ranker, scores),
    Case("transformers-chat", ("-m", "roundhouse_transformers", "chat"), write_writer, chat),
    Case("transformers-pictures", ("-m", "roundhouse_transformers", "chat"), write_seer, seen),
    Case(
        "transformers-transcriptions",
        ("-m", "roundhouse_transformers", "transcriptions"),
        write_whisper,
        text_of(go_forward, language="en"),
    ),
    Case("nemo", ("-m", "roundhouse_nemo"), made_listener("ctc"), text_of(said)),
    Case("nemo-tdt", ("-m", "roundhouse_nemo"), made_listener("tdt"), text_of(said)),
    Case("nemo-rnnt", ("-m", "roundhouse_nemo"), made_listener("rnnt"), text_of(said)),
    Case("nemo-canary", ("-m", "roundhouse_nemo"), made_listener("canary"), text_of(said, language="en")),
    *(
        Case(
            f"nemo-{kind}-live",
            ("-m", "roundhouse_nemo"),
            made_listener(kind),
            live_text_of(*_TWO, language="en"),
        )
        for kind in ("ctc", "tdt", "rnnt", "canary")
    ),
    Case("musicgen", ("-m", "roundhouse_musicgen"), write_composer, music),
    Case(
        "llama-cpp-chat",
        ("-m", "roundhouse_llama_cpp", "chat"),
        write_gguf,
        chat,
        LLAMA_ON_A_GPU,
    ),
    Case(
        "llama-cpp-embeddings",
        ("-m", "roundhouse_llama_cpp", "embeddings"),
        write_gguf,
        vectors,
        LLAMA_ON_A_GPU,
    ),
)
