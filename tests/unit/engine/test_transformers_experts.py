"""Models with experts: what a prompt takes of a GPU does not hang on what others write meanwhile."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roundhouse_engine import Cancellation, ModelSpec, TextOptions
from tests.support.torch_base import prepare_torch

prepare_torch()

import torch  # noqa: E402 - it loads only from here on
import transformers  # noqa: E402
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS  # noqa: E402

from roundhouse_transformers import writer as writer_module  # noqa: E402
from roundhouse_transformers.loading import load  # noqa: E402
from roundhouse_transformers.repository import open_repository  # noqa: E402
from roundhouse_transformers.settings import read_settings  # noqa: E402
from roundhouse_transformers.writer import Writer  # noqa: E402
from tests.support.tiny_models import write_tokenizer  # noqa: E402

WAYS = ("grouped_mm", "batched_mm")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    words = len(write_tokenizer(tmp_path))
    torch.manual_seed(0)
    config = transformers.Qwen3MoeConfig(
        vocab_size=words,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        eos_token_id=None,
    )
    transformers.Qwen3MoeForCausalLM(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def writer(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    """Of a model on a GPU, by what is said of it where it is made; it computes where it is."""
    with monkeypatch.context() as patched:
        patched.setattr(writer_module, "load", lambda *told: replace(load(*told), device="cuda"))
        made = Writer(open_repository(ModelSpec("m", repository), lambda _part: None), read_settings({}))
    made._loaded = replace(made._loaded, device="cpu")
    return made


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The way and the number of tokens of each call of the experts."""
    calls = []

    def counting(way: str, compute: Callable[..., Any]) -> Callable[..., Any]:
        def count(layer: Any, hidden: Any, *routed: Any) -> Any:
            calls.append((way, len(hidden)))
            return compute(layer, hidden, *routed)

        return count

    for way in WAYS:
        monkeypatch.setitem(ALL_EXPERTS_FUNCTIONS, way, counting(way, ALL_EXPERTS_FUNCTIONS[way]))
    return calls


def test_a_prompt_is_read_without_copies_of_weights_while_another_request_writes(
    writer: Writer, computed: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = writer._loaded.model
    with monkeypatch.context() as patched:
        patched.setattr(type(model), "device", torch.device("cuda"))
        writing = model._optimize_model_for_decode()  # as `generate` has it from the prompt to the end
        writing.__enter__()
    told = writer.complete("count one two", TextOptions(max_tokens=3, temperature=0), Cancellation())
    assert len(list(told)) == 5
    writing.__exit__(None, None, None)
    assert computed == [("grouped_mm", 3), ("batched_mm", 1), ("batched_mm", 1)]
