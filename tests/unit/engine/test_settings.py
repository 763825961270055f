"""The environment: what is read from it, and how a mistake is named."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    Isolation,
    ModelError,
    ModelSpec,
    RealtimeSpeech,
    Segment,
    Speech,
    SpeechOptions,
    Utterance,
    Window,
)
from roundhouse_engine.settings import SettingsError, read_settings
from roundhouse_pocketsphinx.handler import PocketSphinx
from tests.conformance.engine.text_handlers import Vectors, Writer


class Plain(Speech):
    capacity = 1

    @override
    @classmethod
    def accept(cls, model: ModelSpec) -> None:
        if model.name == "forbidden":
            raise ModelError(f"{model.name!r} is none of the models of this engine: use 'plain'.")

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None: ...

    @override
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        return ()


class Isolated(Plain):
    isolation = Isolation.PROCESS


class Two(Plain):
    capacity = 2


class Live(Plain, RealtimeSpeech):
    @override
    def utterance(self, options: SpeechOptions, *, interim: bool) -> Utterance:
        raise NotImplementedError


def models(*entries: object) -> dict[str, str]:
    return {"ROUNDHOUSE_MODELS": json.dumps(entries)}


def test_models_as_the_operator_writes_them() -> None:
    entry = {"name": "org/Name", "path": "/models/x", "source": {"type": "HuggingFace"}, "variant": "v"}
    entry["pooling"] = "LastToken"
    settings = read_settings(models(entry, {"name": "b", "path": None, "source": {"type": "Builtin"}}), Plain)
    assert settings.models == (
        ModelSpec("org/Name", Path("/models/x"), {"type": "HuggingFace"}, "v", "LastToken"),
        ModelSpec("b", None, {"type": "Builtin"}, None),
    )


def test_models_by_hand_as_a_comma_list() -> None:
    settings = read_settings({"MODELS": " one, two ,"}, Plain)
    assert [model.name for model in settings.models] == ["one", "two"]


def test_the_operators_list_wins_over_the_one_by_hand() -> None:
    assert read_settings(models({"name": "a"}) | {"MODELS": "b"}, Plain).models[0].name == "a"


def test_defaults() -> None:
    settings = read_settings({"MODELS": "m"}, Plain)
    assert (settings.port, settings.capacity, settings.drain_seconds) == (8000, 1, 30.0)
    assert (settings.host, settings.pod_uid, settings.log_format) == ("", "", "json")
    assert settings.spool_dir.is_dir()


def test_everything_set(tmp_path: Path) -> None:
    environ = {
        "MODELS": "m",
        "ROUNDHOUSE_PORT": "9000",
        "ROUNDHOUSE_HOST": "127.0.0.1",
        "ROUNDHOUSE_CAPACITY": "3",
        "ROUNDHOUSE_POD_UID": "uid",
        "ROUNDHOUSE_DRAIN_SECONDS": "2.5",
        "ROUNDHOUSE_UPLOAD_LIMIT_BYTES": "1000",
        "ROUNDHOUSE_UPLOAD_IDLE_SECONDS": "5",
        "ROUNDHOUSE_AUDIO_LIMIT_SECONDS": "60",
        "ROUNDHOUSE_MEMORY_BUDGET_BYTES": "4000000000",
        "ROUNDHOUSE_MEMORY_WAIT_SECONDS": "7",
        "ROUNDHOUSE_SPOOL_DIR": str(tmp_path),
        "ROUNDHOUSE_LOG_LEVEL": "DEBUG",
        "ROUNDHOUSE_LOG_FORMAT": "text",
    }
    settings = read_settings(environ, Isolated)
    assert (settings.port, settings.host, settings.capacity, settings.pod_uid) == (
        9000,
        "127.0.0.1",
        3,
        "uid",
    )
    assert (settings.drain_seconds, settings.upload_limit_bytes, settings.upload_idle_seconds) == (
        2.5,
        1000,
        5,
    )
    assert (settings.audio_limit_seconds, settings.spool_dir) == (60, tmp_path)
    assert (settings.memory_budget_bytes, settings.memory_wait_seconds) == (4_000_000_000, 7)
    assert (settings.log_level, settings.log_format) == ("debug", "text")


@dataclass(frozen=True)
class Mistake:
    id: str
    environ: dict[str, str]
    says: tuple[str, ...]
    handler: type[Speech] = Plain


MISTAKES = [
    Mistake("nothing", {}, ("No models to serve", "ROUNDHOUSE_MODELS")),
    Mistake("empty list", models(), ("No models to serve",)),
    Mistake("bad json", {"ROUNDHOUSE_MODELS": "[{"}, ("ROUNDHOUSE_MODELS is no JSON", "'[{'")),
    Mistake("no list", {"ROUNDHOUSE_MODELS": "{}"}, ("must be a JSON list",)),
    Mistake("deep", {"ROUNDHOUSE_MODELS": "[" * 100_000}, ("is no JSON",)),
    Mistake("entry", models({"name": "a"}, 7), ("ROUNDHOUSE_MODELS[1]", "7")),
    Mistake("no name", models({"path": None}), ("ROUNDHOUSE_MODELS[0]", "`name`")),
    Mistake("slip", models({"nam": "a"}), ("'nam' is none of name, path, source, variant",)),
    Mistake("relative", models({"name": "a", "path": "x"}), ("ROUNDHOUSE_MODELS[0]", "'a'", "absolute")),
    Mistake("source", models({"name": "a", "source": "hub"}), ("'a'", "`source`", "'hub'")),
    Mistake("variant", models({"name": "a", "variant": 1}), ("'a'", "`variant`")),
    Mistake(
        "pooling",
        models({"name": "a", "pooling": "mean"}),
        ("'a'", "Mean, LastToken, CLS or null, not 'mean'"),
    ),
    Mistake("twice", models({"name": "a"}, {"name": "a"}), ("ROUNDHOUSE_MODELS[1]", "'a'", "twice")),
    Mistake(
        "unknown model", models({"name": "forbidden"}), ("ROUNDHOUSE_MODELS[0]", "'forbidden'", "'plain'")
    ),
    Mistake("unknown by hand", {"MODELS": "plain,forbidden"}, ("MODELS, name 2", "'forbidden'")),
    Mistake(
        "pocketsphinx finds what was fetched at a path",
        models({"name": "big", "path": None, "source": {"type": "HuggingFace"}}),
        ("ROUNDHOUSE_MODELS[0]", "'big'", "'HuggingFace'", "Builtin"),
        PocketSphinx,
    ),
    Mistake("port", {"MODELS": "m", "ROUNDHOUSE_PORT": "http"}, ("ROUNDHOUSE_PORT", "'http'")),
    Mistake("port range", {"MODELS": "m", "ROUNDHOUSE_PORT": "70000"}, ("0 to 65535", "70000")),
    Mistake("no slots", {"MODELS": "m", "ROUNDHOUSE_CAPACITY": "0"}, ("ROUNDHOUSE_CAPACITY", "1 to")),
    Mistake(
        "threads",
        {"MODELS": "m", "ROUNDHOUSE_CAPACITY": "2"},
        ("ROUNDHOUSE_CAPACITY is 2, but Plain runs", "thread_safe = True", "PROCESS"),
    ),
    Mistake("threads of the class", {"MODELS": "m"}, ("Two.capacity is 2, but Two runs", "set it to 1"), Two),
    Mistake("sessions of the class", {"MODELS": "m"}, ("Live.sessions is 2, but", "set it to 0"), Live),
    Mistake("time", {"MODELS": "m", "ROUNDHOUSE_DRAIN_SECONDS": "-1"}, ("ROUNDHOUSE_DRAIN_SECONDS", "'-1'")),
    Mistake("endless", {"MODELS": "m", "ROUNDHOUSE_DRAIN_SECONDS": "inf"}, ("'inf'",)),
    Mistake(
        "spool", {"MODELS": "m", "ROUNDHOUSE_SPOOL_DIR": "/nowhere"}, ("ROUNDHOUSE_SPOOL_DIR", "/nowhere")
    ),
    Mistake("budget", {"MODELS": "m", "ROUNDHOUSE_MEMORY_BUDGET_BYTES": "4GiB"}, ("MEMORY_BUDGET", "'4GiB'")),
    Mistake("no budget", {"MODELS": "m", "ROUNDHOUSE_MEMORY_BUDGET_BYTES": "0"}, ("MEMORY_BUDGET", "1 or")),
    Mistake("level", {"MODELS": "m", "ROUNDHOUSE_LOG_LEVEL": "loud"}, ("debug, info", "'loud'")),
]


@pytest.mark.req("S2-23")
@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.id)
def test_a_mistake_is_named_with_its_place(case: Mistake) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(case.environ, case.handler)
    for words in case.says:
        assert words in str(caught.value)


class Sees(Writer):
    images = True


def test_texts_are_short_and_pictures_are_not() -> None:
    assert read_settings({"MODELS": "m"}, Writer).body_limit_bytes == 4 << 20
    assert read_settings({"MODELS": "m"}, Sees).body_limit_bytes == 32 << 20
    assert read_settings({"MODELS": "m"}, Vectors).body_limit_bytes == 16 << 20, "it ranks documents"
    told = {"MODELS": "m", "ROUNDHOUSE_BODY_LIMIT_BYTES": "7"}
    assert read_settings(told, Writer).body_limit_bytes == 7
