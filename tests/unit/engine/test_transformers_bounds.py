"""How much of a text the engine of transformers reads to learn that it is too long."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roundhouse_engine import ModelSpec
from roundhouse_engine.cutting import cut_pair
from roundhouse_transformers.handlers import TransformersRerank
from tests.support.torch_base import prepare_torch

prepare_torch()

from tests.support.tiny_models import write_ranker  # noqa: E402 - torch loads only from here on


@pytest.mark.parametrize(
    "document", [" ".join(["one"] * 200_000), " " * 100_000 + "one", "x" * 900_000], ids=len
)
def test_of_a_document_that_is_far_too_long_no_more_is_read_than_could_be_ranked(
    tmp_path: Path, document: str
) -> None:
    """Tokenizers take seconds for each megabyte, and hundreds of megabytes of memory."""
    handler, lengths = TransformersRerank(), []
    handler.load(ModelSpec("m", write_ranker(tmp_path / "m")), lambda _part: None)
    loaded = handler._ranker._loaded

    def tokenizer(text: str) -> Any:
        lengths.append(len(text))
        return loaded.tokenizer(text)

    handler._ranker._loaded = replace(loaded, tokenizer=tokenizer)
    (_, left), tokens = cut_pair(handler, "one", document, None)
    assert document.startswith(left)
    assert 3 < tokens <= 128
    assert max(lengths) <= 128 * 16
