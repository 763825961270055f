"""A config.json that is another model's, or that no model can be of, is told as what is at fault."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from roundhouse_engine import ModelError, ModelSpec
from tests.support.torch_base import prepare_torch


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prepare_torch()
    from tests.support import tiny_models  # noqa: PLC0415 - torch loads only from here on

    return tiny_models.write_embedder(tmp_path_factory.mktemp("embedder") / "m")


@pytest.fixture(scope="module")
def whisper(making: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = making.write_whisper(tmp_path_factory.mktemp("whisper"))
    return folder


@dataclass(frozen=True)
class Wrong:
    id: str
    fields: dict[str, Any]
    says: str


OF_EMBEDDER = [
    Wrong(
        "another size",
        {"vocab_size": 7},
        r"1 of its weights are of another size than its config.json says, the first is "
        r"'embeddings.word_embeddings.weight': \[\d+, 32\], and not \[7, 32\]\. One of the files is another",
    ),
    Wrong(
        "no heads",
        {"num_attention_heads": 0},
        r"no model is as its config.json says: .*\(ZeroDivisionError\)",
    ),
    Wrong(
        "sizes that contradict",
        {"hidden_size": 7},
        r"no model is as its config.json says: .*hidden size \(7\)",
    ),
    Wrong("no kind", {"model_type": "none"}, r"no model is as its config.json says: .*`none`"),
]
OF_WHISPER = [
    Wrong(
        "another size", {"decoder_ffn_dim": 8}, r"'model.decoder.layers.0.fc1.bias': \[\d+\], and not \[8\]"
    ),
    Wrong(
        "no heads",
        {"encoder_attention_heads": 0},
        r"no model is as its config.json says: .*ZeroDivisionError",
    ),
]


def refusal(kind: Callable[[], Any], folder: Path, wrong: Wrong, told_by: Path) -> str:
    """Of the same weights with this configuration."""
    for file in folder.iterdir():
        (told_by / file.name).symlink_to(file)
    config = told_by / "config.json"
    told = json.loads(config.read_text()) | wrong.fields
    config.unlink()
    config.write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"^'m' cannot be loaded: ") as error:
        kind().load(ModelSpec("m", told_by), lambda _: None)
    return str(error.value)


@pytest.mark.parametrize("wrong", OF_EMBEDDER, ids=lambda wrong: wrong.id)
def test_of_a_kind_that_the_library_finds_out(wrong: Wrong, embedder: Path, tmp_path: Path) -> None:
    from roundhouse_transformers.handlers import TransformersEmbeddings  # noqa: PLC0415 - see `embedder`

    found = refusal(TransformersEmbeddings, embedder, wrong, tmp_path)
    assert re.search(wrong.says, found), found


@pytest.mark.parametrize("wrong", OF_WHISPER, ids=lambda wrong: wrong.id)
def test_of_whispers_kind(wrong: Wrong, whisper: Path, tmp_path: Path) -> None:
    from roundhouse_transformers.speech import TransformersTranscriptions  # noqa: PLC0415 - as above

    found = refusal(TransformersTranscriptions, whisper, wrong, tmp_path)
    assert re.search(wrong.says, found), found
