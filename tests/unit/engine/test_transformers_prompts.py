"""A long prompt is read in parts by models that say the same then, and left between two of them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from roundhouse_engine import Cancellation, Cancelled, ModelSpec, Piece, TextOptions
from tests.support.torch_base import prepare_torch

prepare_torch()

import torch  # noqa: E402 - it loads only from here on
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402

from roundhouse_transformers import prompts  # noqa: E402
from roundhouse_transformers.handlers import TransformersChat  # noqa: E402
from roundhouse_transformers.prompts import part_of  # noqa: E402
from tests.support.tiny_models import write_writer  # noqa: E402

PART: Final = 16
PROMPT: Final = tuple(range(3, 43))
SIZES: Final = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
BY_LENGTH: Final = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [3.0] * 4,
}


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TransformersChat]:
    """Which goes on by chance, and never ends."""
    monkeypatch.setattr(prompts, "_TOKENS", PART)
    handler = TransformersChat()
    handler.load(ModelSpec("m", write_writer(tmp_path, length=256)), lambda _part: None)
    handler._writer._ends = frozenset()
    yield handler
    handler.unload()


def read(handler: TransformersChat, cancellation: Cancellation, leave_at: int = 0) -> list[int]:
    """How many tokens each call of the model is given; at this one its client leaves."""
    lengths: list[int] = []

    def look(_model: Any, _inputs: Any, named: Any) -> None:
        lengths.append(named["input_ids"].shape[1])
        if len(lengths) == leave_at:
            cancellation.cancel()

    handler._writer._loaded.model.register_forward_pre_hook(look, with_kwargs=True)
    return lengths


def written(handler: TransformersChat, cancellation: Cancellation) -> str:
    events = handler.complete(PROMPT, TextOptions(max_tokens=4, temperature=0), cancellation)
    return "".join(event.text for event in events if isinstance(event, Piece))


def test_a_long_prompt_is_read_in_parts_and_goes_on_alike(handler: TransformersChat) -> None:
    lengths = read(handler, cancellation := Cancellation())
    in_parts = written(handler, cancellation)
    assert lengths == [PART, PART, len(PROMPT) - 2 * PART, 1, 1, 1]
    handler._writer._part = None
    lengths.clear()
    assert written(handler, cancellation) == in_parts
    assert lengths == [len(PROMPT), 1, 1, 1]


@pytest.mark.parametrize("call", [2, 5], ids=["in the prompt", "in the answer"])
def test_who_leaves_gets_no_further_part_of_the_prompt_and_no_further_token(
    handler: TransformersChat, call: int
) -> None:
    lengths = read(handler, cancellation := Cancellation(), leave_at=call)
    with contextlib.suppress(Cancelled):
        written(handler, cancellation)
    assert lengths == [PART, PART, len(PROMPT) - 2 * PART, 1, 1][:call]


def model_of(kind: str, **more: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES | more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("mistral", {"sliding_window": 10}),
        ("gemma3_text", {"head_dim": 8, "sliding_window": 10}),
        ("bloom", {"n_head": 4, "n_layer": 2}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_models_that_keep_keys_and_values_say_the_same(kind: str, more: dict[str, Any]) -> None:
    model = model_of(kind, **more)
    assert part_of(model) == prompts._TOKENS
    ids = torch.tensor([PROMPT])

    def said(part: int | None) -> list[int]:
        with torch.inference_mode():
            asked = {"max_new_tokens": 6, "do_sample": False, "prefill_chunk_size": part}
            found = model.generate(ids, attention_mask=torch.ones_like(ids), **asked)
        tokens: list[int] = found[0].tolist()
        return tokens

    assert said(PART) == said(None)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("mamba", {}),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}),
        ("phi3", {"original_max_position_embeddings": 32, "rope_parameters": BY_LENGTH, "pad_token_id": 0}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_models_that_would_say_something_else_read_it_at_once(kind: str, more: dict[str, Any]) -> None:
    assert part_of(model_of(kind, **more)) is None


def test_a_repository_that_says_nothing_of_a_cache_has_one() -> None:
    model = model_of("llama")
    model.generation_config.use_cache = None
    assert part_of(model) == part_of(model_of("llama"))


def test_without_a_cache_there_are_no_parts() -> None:
    model = model_of("llama")
    model.generation_config.use_cache = False
    assert part_of(model) is None
