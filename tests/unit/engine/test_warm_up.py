"""What engines of torch compute before a model is ready: no client waits for a GPU's first steps."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from roundhouse_engine import Cancellation, Handler, ModelSpec, TextOptions
from tests.support.torch_base import prepare_torch

prepare_torch()

from roundhouse_musicgen.handler import MusicGen  # noqa: E402 - torch loads only from here on
from roundhouse_transformers.handlers import (  # noqa: E402
    TransformersChat,
    TransformersEmbeddings,
    TransformersRerank,
)
from tests.support.tiny_models import write_embedder, write_ranker, write_writer  # noqa: E402
from tests.support.tiny_music import write_composer  # noqa: E402


def loaded(handler: Handler, path: Path) -> Any:
    handler.load(ModelSpec("m", path), lambda _part: None)
    return handler


def calls_of(model: Any) -> list[tuple[int, ...]]:
    """The shape of what each call of the model is given, from now on."""
    calls: list[tuple[int, ...]] = []

    def count(_model: Any, inputs: Any, named: Any) -> None:
        calls.append(tuple((inputs[0] if inputs else named["input_ids"]).shape))

    model.register_forward_pre_hook(count, with_kwargs=True)
    return calls


def test_a_writer_reads_a_prompt_and_makes_a_step(tmp_path: Path) -> None:
    """A step has kernels of its own."""
    handler = loaded(TransformersChat(), write_writer(tmp_path))
    handler._writer._ends = frozenset()  # the tiny one would end at once
    calls = calls_of(handler._writer._loaded.model)
    handler.warm_up()
    assert calls == [(1, 1), (1, 1)]


def test_an_encoder_reads_a_text(tmp_path: Path) -> None:
    handler = loaded(TransformersEmbeddings(), write_embedder(tmp_path))
    calls = calls_of(handler._encoder._loaded.model)
    handler.warm_up()
    assert len(calls) == 1


def test_a_ranker_reads_two_pairs_of_different_lengths(tmp_path: Path) -> None:
    handler = loaded(TransformersRerank(), write_ranker(tmp_path))
    calls = calls_of(handler._ranker._loaded.model)
    handler.warm_up()
    assert [pairs for pairs, _ in calls] == [2]


class Gpu(str):
    """The name of what computes here, which says that it is a GPU."""

    __slots__ = ()

    @override
    def __eq__(self, other: object) -> bool:
        return other == "cuda"

    __hash__ = str.__hash__


@pytest.mark.parametrize("device", ["cpu", Gpu("cpu")])
def test_a_composer_makes_a_frame_on_a_gpu_alone(tmp_path: Path, device: str) -> None:
    handler = loaded(MusicGen(), write_composer(tmp_path))
    composer = handler._composer
    calls = calls_of(composer._loaded.model.decoder)
    made = []
    composer._loaded.model.audio_encoder.decoder.register_forward_hook(lambda *_: made.append(1))
    composer._loaded = replace(composer._loaded, device=device)
    handler.warm_up()
    assert bool(calls) == bool(made) == isinstance(device, Gpu)


@pytest.mark.parametrize("said", ["static", "sliding_window"])
def test_a_cache_that_would_have_the_model_compiled_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """On a GPU the library compiles for it, and no image has a compiler."""
    file = write_writer(tmp_path) / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"cache_implementation": said}))
    handler = loaded(TransformersChat(), tmp_path)
    model = handler._writer._loaded.model
    asked, compiles = [], model._valid_auto_compile_criteria

    def spy(inputs: Any, config: Any) -> Any:
        asked.append((config.cache_implementation, config.disable_compile))
        return compiles(inputs, config)

    monkeypatch.setattr(model, "_valid_auto_compile_criteria", spy)
    assert list(handler.complete("count", TextOptions(max_tokens=3), Cancellation()))
    assert asked == [(None, True)]
