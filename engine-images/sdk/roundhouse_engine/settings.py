"""What the environment tells an engine, checked whole before anything starts.

Standard library alone. A mistake is a `SettingsError` whose message names the variable, the entry and the
remedy; the process then exits, because an engine that guesses would serve the wrong thing.
"""

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from roundhouse_engine.handler import Handler, Isolation, ModelError, ModelSpec, Pooling
from roundhouse_engine.realtime_speech import RealtimeSpeech
from roundhouse_engine.text import Batched, Chat, Rerank

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "text"]

MODELS_FILE: Final = Path("/etc/roundhouse/models.json")
ADMIN_TOKEN: Final = "ROUNDHOUSE_ADMIN_TOKEN"  # noqa: S105 - the name of the variable
_TOKEN_LENGTH: Final = 16
_ENTRY: Final = ("name", "path", "source", "variant", "pooling")
_GIB: Final = 1 << 30


class SettingsError(Exception):
    """The environment asks for something that cannot be."""


class EntryError(SettingsError):
    """An entry of a list of models is wrong; `field` names the place."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Settings:
    """An engine's settings; the variable of each is its name in capitals after `ROUNDHOUSE_`."""

    models: tuple[ModelSpec, ...]
    """Those that the environment names; none where a file does."""
    models_file: Path | None
    """Names the models to serve, and may change while the engine runs; None where the environment does."""
    capacity: int
    sessions: int
    """Realtime sessions at once; 0 where the handler takes none."""
    host: str
    """The address to listen on; every one when empty, as a pod must."""
    port: int
    admin_port: int
    admin_token: str = dataclasses.field(repr=False)
    """Whoever has it may replace the list of models; nobody where it is empty."""
    pod_uid: str
    drain_seconds: float
    memory_budget_bytes: int | None
    """What models may hold together; None: no bound, and none is unloaded for others."""
    memory_wait_seconds: float
    """How long a request waits until its model is loaded again."""
    load_patience_seconds: float
    """How long one load keeps those of other models waiting."""
    upload_limit_bytes: int
    upload_idle_seconds: float
    body_limit_bytes: int
    """Of requests that are JSON."""
    audio_limit_seconds: float
    session_idle_seconds: float
    """How long a session's client may send nothing."""
    spool_dir: Path
    log_level: LogLevel
    log_format: LogFormat


def read_settings(environ: Mapping[str, str], handler: type[Handler]) -> Settings:
    """The settings in `environ` for `handler`; raises `SettingsError`."""
    models_file = _models_file(environ)
    return Settings(
        models=() if models_file else _models(environ, handler),
        models_file=models_file,
        capacity=_capacity(environ, handler),
        sessions=_sessions(environ, handler),
        host=environ.get("ROUNDHOUSE_HOST", ""),
        port=_integer(environ, "ROUNDHOUSE_PORT", 8000, lowest=0, highest=65535),
        admin_port=_integer(environ, "ROUNDHOUSE_ADMIN_PORT", 8001, lowest=0, highest=65535),
        admin_token=_admin_token(environ),
        pod_uid=environ.get("ROUNDHOUSE_POD_UID", ""),
        drain_seconds=_number(environ, "ROUNDHOUSE_DRAIN_SECONDS", 30.0),
        memory_budget_bytes=_integer(environ, "ROUNDHOUSE_MEMORY_BUDGET_BYTES", 0, lowest=1) or None,
        memory_wait_seconds=_number(environ, "ROUNDHOUSE_MEMORY_WAIT_SECONDS", 60.0),
        load_patience_seconds=_number(environ, "ROUNDHOUSE_LOAD_PATIENCE_SECONDS", 600.0),
        upload_limit_bytes=_integer(environ, "ROUNDHOUSE_UPLOAD_LIMIT_BYTES", _GIB, lowest=1),
        upload_idle_seconds=_number(environ, "ROUNDHOUSE_UPLOAD_IDLE_SECONDS", 60.0),
        body_limit_bytes=_integer(environ, "ROUNDHOUSE_BODY_LIMIT_BYTES", _body_limit(handler), lowest=1),
        audio_limit_seconds=_number(environ, "ROUNDHOUSE_AUDIO_LIMIT_SECONDS", 4 * 3600.0),
        session_idle_seconds=_number(environ, "ROUNDHOUSE_SESSION_IDLE_SECONDS", 300.0),
        spool_dir=_directory(environ, "ROUNDHOUSE_SPOOL_DIR"),
        log_level=cast("LogLevel", _choice(environ, "ROUNDHOUSE_LOG_LEVEL", "info", get_args(LogLevel))),
        log_format=cast("LogFormat", _choice(environ, "ROUNDHOUSE_LOG_FORMAT", "json", get_args(LogFormat))),
    )


def _models_file(environ: Mapping[str, str]) -> Path | None:
    """The file, where it is named, or where it lies in its place and no variable names models."""
    if named := environ.get("ROUNDHOUSE_MODELS_FILE", "").strip():
        return Path(named)
    told = any(environ.get(name, "").strip() for name in ("ROUNDHOUSE_MODELS", "MODELS"))
    return MODELS_FILE if not told and MODELS_FILE.exists() else None


def _models(environ: Mapping[str, str], handler: type[Handler]) -> tuple[ModelSpec, ...]:
    entries = _declared(environ)
    if not entries and not _admin_token(environ):
        raise SettingsError(
            "No models to serve: set ROUNDHOUSE_MODELS to a JSON list such as "
            '[{"name": "english"}], MODELS to a comma list of names, or ROUNDHOUSE_MODELS_FILE to a file.'
        )
    models = tuple(read_model(where, entry) for where, entry in entries)
    for place, model in enumerate(models):
        where = entries[place][0]
        if model.name in {other.name for other in models[:place]}:
            raise SettingsError(f"{where}: the model {model.name!r} is named twice; give each its own name.")
        try:
            handler.accept(model)
        except ModelError as error:
            raise SettingsError(f"{where}: {error}") from error
    return models


def _declared(environ: Mapping[str, str]) -> list[tuple[str, Any]]:
    """The entries of the two variables, each with the words that name its place in an error."""
    if text := environ.get("ROUNDHOUSE_MODELS", "").strip():
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SettingsError(
                f"ROUNDHOUSE_MODELS is no JSON: {error}. It starts with {text[:80]!r}."
            ) from error
        if not isinstance(entries, list):
            raise SettingsError(f"ROUNDHOUSE_MODELS must be a JSON list of models, not {text[:80]!r}.")
        return [(f"ROUNDHOUSE_MODELS[{place}]", entry) for place, entry in enumerate(entries)]
    names = [name.strip() for name in environ.get("MODELS", "").split(",")]
    return [(f"MODELS, name {place}", {"name": name}) for place, name in enumerate(names, start=1) if name]


def read_model(where: str, entry: Any) -> ModelSpec:  # noqa: ANN401 - whatever the JSON held
    """An entry of a list of models; `where` names its place in the `SettingsError`."""
    if not isinstance(entry, dict):
        raise EntryError(
            f'{where}: a model is an object such as {{"name": "english"}}, not {entry!r}.', where
        )
    name, path = entry.get("name"), entry.get("path")
    source, variant = entry.get("source") or {"type": "Builtin"}, entry.get("variant")
    pooling = entry.get("pooling")
    if not isinstance(name, str) or not name.strip():
        unknown = ", ".join(repr(key) for key in entry if key not in _ENTRY)
        told = f"; {unknown} is none of {', '.join(_ENTRY)}" if unknown else ""
        message = f"{where}: `name` must be a text that is not empty, not {name!r}{told}."
        raise EntryError(message, f"{where}.name")
    if path is not None and (not isinstance(path, str) or not Path(path).is_absolute()):
        message = f"{where} ({name!r}): `path` must be an absolute path or null, not {path!r}."
        raise EntryError(message, f"{where}.path")
    if not isinstance(source, dict) or not isinstance(source.get("type"), str):
        message = f"{where} ({name!r}): `source` must be an object with a `type`, not {source!r}."
        raise EntryError(message, f"{where}.source")
    if variant is not None and not isinstance(variant, str):
        message = f"{where} ({name!r}): `variant` must be a text or null, not {variant!r}."
        raise EntryError(message, f"{where}.variant")
    if pooling is not None and pooling not in get_args(Pooling):
        known = ", ".join(get_args(Pooling))
        message = f"{where} ({name!r}): `pooling` must be one of {known} or null, not {pooling!r}."
        raise EntryError(message, f"{where}.pooling")
    return ModelSpec(name, Path(path) if path else None, source, variant, pooling)


def _body_limit(handler: type[Handler]) -> int:
    """Texts are short: 300,000 tokens, the most that OpenAI takes, are half of 4 MiB.

    Pictures are not, nor are thousands of documents to rank.
    """
    if issubclass(handler, Chat) and handler.images:
        return 32 << 20
    return 16 << 20 if issubclass(handler, Rerank) else 4 << 20


def _admin_token(environ: Mapping[str, str]) -> str:
    token = environ.get(ADMIN_TOKEN, "").strip()
    if token and (len(token) < _TOKEN_LENGTH or not token.isascii() or not token.isprintable()):
        # Not with the token itself, which the log would keep.
        raise SettingsError(f"{ADMIN_TOKEN} must be {_TOKEN_LENGTH} or more printable ASCII characters.")
    return token


def _capacity(environ: Mapping[str, str], handler: type[Handler]) -> int:
    capacity = _integer(environ, "ROUNDHOUSE_CAPACITY", handler.capacity, lowest=1, highest=1024)
    if not issubclass(handler, Batched):
        _check_at_once(environ, handler, "ROUNDHOUSE_CAPACITY", capacity, most=1)
    return capacity


def _sessions(environ: Mapping[str, str], handler: type[Handler]) -> int:
    if not issubclass(handler, RealtimeSpeech):
        return 0
    sessions = _integer(environ, "ROUNDHOUSE_SESSIONS", handler.sessions, lowest=0, highest=1024)
    _check_at_once(environ, handler, "ROUNDHOUSE_SESSIONS", sessions, most=0)
    return sessions


def _check_at_once(
    environ: Mapping[str, str], handler: type[Handler], variable: str, at_once: int, *, most: int
) -> None:
    """Whoever runs in a thread and is not thread-safe takes so many at most."""
    if at_once <= most or handler.isolation is Isolation.PROCESS or handler.thread_safe:
        return
    name = handler.__name__
    attribute = variable.removeprefix("ROUNDHOUSE_").lower()
    said = variable if environ.get(variable, "").strip() else f"{name}.{attribute}"
    raise SettingsError(
        f"{said} is {at_once}, but {name} runs in a thread and is not thread-safe: set it to {most}, or "
        "declare in the class `isolation = Isolation.PROCESS`, or, if nothing in it changes after `load`, "
        "`thread_safe = True`."
    )


def _integer(
    environ: Mapping[str, str], variable: str, default: int, *, lowest: int, highest: int | None = None
) -> int:
    text = environ.get(variable, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit():
        raise SettingsError(f"{variable} must be a whole number, not {text!r}.")
    value = int(text)
    if value < lowest or (highest is not None and value > highest):
        bounds = f"{lowest} or more" if highest is None else f"{lowest} to {highest}"
        raise SettingsError(f"{variable} must be {bounds}, not {value}.")
    return value


def _number(environ: Mapping[str, str], variable: str, default: float) -> float:
    text = environ.get(variable, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise SettingsError(f"{variable} must be a number of seconds, 0 or more, not {text!r}.")
    return value


def _directory(environ: Mapping[str, str], variable: str) -> Path:
    path = Path(environ.get(variable) or tempfile.gettempdir())
    if not path.is_dir():
        raise SettingsError(f"{variable} must be a directory that exists, not {str(path)!r}.")
    return path


def _choice(environ: Mapping[str, str], variable: str, default: str, choices: tuple[str, ...]) -> str:
    value = environ.get(variable, "").strip().lower() or default
    if value not in choices:
        raise SettingsError(f"{variable} must be one of {', '.join(choices)}, not {value!r}.")
    return value
