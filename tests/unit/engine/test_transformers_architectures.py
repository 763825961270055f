"""Each architecture of the catalogue's embedders and rankers: a text means the same beside longer ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roundhouse_engine import ModelSpec
from tests.support.torch_base import prepare_torch

prepare_torch()

import torch  # noqa: E402 - it loads only from here on
import transformers  # noqa: E402

from roundhouse_transformers.encoder import Encoder  # noqa: E402
from roundhouse_transformers.ranker import Ranker  # noqa: E402
from roundhouse_transformers.repository import Repository, open_repository  # noqa: E402
from roundhouse_transformers.settings import read_settings  # noqa: E402
from tests.support.tiny_models import write_tokenizer  # noqa: E402

COMMON: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 130,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
SHORT, LONG = "one two", "count one two three user assistant system one two three"


def qwen3() -> Any:
    """Qwen3-Embedding: causal, with heads of their own width, pooled at the last token."""
    config = transformers.Qwen3Config(**COMMON, num_key_value_heads=1, head_dim=16)
    return transformers.Qwen3Model(config)


def gemma() -> Any:
    """EmbeddingGemma: Gemma 3 that looks both ways, over windows in most of its layers."""
    config = transformers.Gemma3TextConfig(
        **COMMON,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
        use_bidirectional_attention=True,
    )
    return transformers.Gemma3TextModel(config)


def xlm_roberta() -> Any:
    """bge-m3: positions count from the padding's number on."""
    return transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**COMMON))


def xlm_roberta_ranker() -> Any:
    """bge-reranker-v2-m3."""
    config = transformers.XLMRobertaConfig(**COMMON, num_labels=1)
    return transformers.XLMRobertaForSequenceClassification(config)


def written(folder: Path, make: Callable[[], Any], pooling: str | None = None) -> Repository:
    torch.manual_seed(0)
    make().save_pretrained(folder)
    write_tokenizer(folder, frames=True)
    if pooling:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
        steps = {"": "Transformer", "1_Pooling": "Pooling"}
        told = [{"path": at, "type": f"sentence_transformers.models.{each}"} for at, each in steps.items()]
        (folder / "modules.json").write_text(json.dumps(told))
    return open_repository(ModelSpec("m", folder), lambda _: None)


@pytest.mark.req("S2-2")
@pytest.mark.parametrize(
    ("make", "pooling"),
    [(qwen3, "lasttoken"), (gemma, "mean_tokens"), (xlm_roberta, "cls_token")],
    ids=["Qwen3", "Gemma 3", "XLM-RoBERTa"],
)
def test_an_embedding_model_of_the_catalogue_s_kind(
    make: Callable[[], Any], pooling: str, tmp_path: Path
) -> None:
    encoder = Encoder(written(tmp_path, make, pooling), read_settings({}))
    together, alone = encoder.embed([SHORT, LONG]), encoder.embed([SHORT])
    assert together.shape == (2, 32)
    np.testing.assert_allclose(together[0], alone[0], atol=1e-4)
    assert float(together[0] @ together[1]) < 0.9999
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.req("S2-12")
def test_pooling_is_the_variant_s_then_the_environment_s_then_the_repository_s(tmp_path: Path) -> None:
    repository, told = written(tmp_path, qwen3, "lasttoken"), read_settings({"ROUNDHOUSE_POOLING": "mean"})
    files = Encoder(repository, read_settings({})).embed([LONG])
    environment = Encoder(repository, told).embed([LONG])
    assert not np.allclose(files, environment, atol=1e-2)
    np.testing.assert_allclose(Encoder(repository, told, "LastToken").embed([LONG]), files, atol=1e-5)


def test_a_ranking_model_of_the_catalogue_s_kind(tmp_path: Path) -> None:
    ranker = Ranker(written(tmp_path, xlm_roberta_ranker), read_settings({}))
    together, [alone] = ranker.score([(SHORT, SHORT), (SHORT, LONG)]), ranker.score([(SHORT, SHORT)])
    assert together[0] == pytest.approx(alone, abs=1e-5)
    assert together[0] != together[1]
    assert all(0 < score < 1 for score in together)
