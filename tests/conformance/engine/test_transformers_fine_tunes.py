"""Repositories of Whisper's kind as they are published: old, bare, and those that cannot be served."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from roundhouse_engine import ModelError, ModelSpec, SpeechOptions
from roundhouse_transformers.speech import TransformersTranscriptions
from tests.conformance.engine.listening import CLIP_SECONDS, heard, loaded

PICKLED = {"type": "HuggingFace", "allow": ["UnsafeFormats"]}


@pytest.fixture(scope="module")
def repositories(making: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fine-tunes")
    kinds = {"old": making.Kind.OLD_FINE_TUNE, "bare": making.Kind.BARE}
    return {name: making.write_whisper(folder / name, kind=kind) for name, kind in kinds.items()}


@pytest.mark.parametrize("name", ["old", "bare"])
def test_an_old_fine_tune_is_read_by_its_tokenizer(
    name: str, repositories: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """As those of jethrowang and Ivydata are published: what forces a language upon all is not looked at."""
    with loaded(repositories[name], **PICKLED) as engine:
        assert "segments end where a pause is" in caplog.text
        assert "times of words are taken from all heads" in caplog.text
        (segment,) = heard(engine, SpeechOptions(words=True))
    assert (segment.text, segment.language) == (" hello world", "en")
    assert segment.start == 3.0
    assert segment.end == pytest.approx(3.0 + CLIP_SECONDS)
    assert [word.text for word in segment.words] == ["hello", "world"]
    assert all(3 <= word.start <= word.end <= segment.end for word in segment.words)


def test_segments_are_the_models_where_that_is_asked_for(
    repositories: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_SEGMENTS", "model")
    with loaded(repositories["bare"]) as engine:
        assert [(each.start, each.end) for each in heard(engine)] == [(3.0, 4.0)]


@dataclass(frozen=True)
class Bad:
    id: str
    spoil: Callable[[Path], None]
    says: str


def changed(name: str, **fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BAD = [
    Bad("pickled", pickled, "pickled weights alone"),
    Bad("no tokenizer", lambda folder: (folder / "tokenizer.json").unlink(), "holds no tokenizer.json"),
    Bad("another kind", changed("config.json", model_type="wav2vec2"), "of the kind 'wav2vec2'"),
    Bad("too few tokens", changed("config.json", vocab_size=500), "cannot be loaded"),
    Bad("other bands", changed("preprocessor_config.json", feature_size=128), "wants sound in 80 bands"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_a_repository_that_cannot_be_served_says_why(bad: Bad, making: ModuleType, tmp_path: Path) -> None:
    bad.spoil(making.write_whisper(tmp_path))
    with pytest.raises(ModelError, match=bad.says):
        TransformersTranscriptions().load(ModelSpec("m", tmp_path), lambda _: None)
