"""What the environment tells the loader, checked whole before anything is fetched."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from .failure import LoadError, Reason
from .source import Source, parse_source, pinned

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TRUE: Final = {"1", "true", "yes", "on"}

LogFormat = Literal["json", "text"]


@dataclass(frozen=True, slots=True)
class Reporting:
    """Where the loader says how it goes; read first, so that every mistake can be told."""

    port: int
    termination_log: Path
    log_level: str
    log_format: LogFormat


@dataclass(frozen=True, slots=True)
class Settings:
    """What to load, and where to."""

    source: Source
    cache: Path
    key: str
    never: bool
    """Nothing may be fetched: the weights are in the cache, or the loader fails."""
    credentials: Path
    parallelism: int
    """Files fetched at once."""
    patience_seconds: float
    """How long a source may fail without a byte gained before it counts as unreachable."""
    timeout_seconds: float
    """How long a source may be silent within a request."""

    @property
    def folder(self) -> Path:
        return self.cache / self.key


def read_reporting(environ: Mapping[str, str]) -> Reporting:
    """Mistakes fall back to the defaults here: without a report nobody would learn of them."""
    port = environ.get("ROUNDHOUSE_LOADER_PORT", "8002")
    level = environ.get("ROUNDHOUSE_LOG_LEVEL", "info").upper()
    return Reporting(
        port=int(port) if port.isdecimal() and int(port) <= 65535 else 8002,
        termination_log=Path(environ.get("ROUNDHOUSE_TERMINATION_LOG", "/dev/termination-log")),
        log_level=level if level in {"DEBUG", "INFO", "WARNING", "ERROR"} else "INFO",
        log_format="text" if environ.get("ROUNDHOUSE_LOG_FORMAT") == "text" else "json",
    )


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`; raises LoadError InvalidSource."""
    if "ROUNDHOUSE_SOURCE" not in environ:
        raise _invalid("ROUNDHOUSE_SOURCE", "is not set; give the JSON of a variant's `spec.source`")
    key = environ.get("ROUNDHOUSE_CACHE_KEY", "")
    if not _KEY.fullmatch(key):
        raise _invalid("ROUNDHOUSE_CACHE_KEY", f"is {key!r}; give a folder's name of letters, digits, . _ -")
    policy = environ.get("ROUNDHOUSE_DOWNLOAD_POLICY", "Auto")
    if policy not in {"Auto", "Never"}:
        raise _invalid("ROUNDHOUSE_DOWNLOAD_POLICY", f"is {policy!r}; use Auto or Never")
    return Settings(
        source=pinned(parse_source(environ["ROUNDHOUSE_SOURCE"]), environ.get("ROUNDHOUSE_REVISION", "")),
        cache=Path(environ.get("ROUNDHOUSE_CACHE_DIR", "/cache")),
        key=key,
        never=policy == "Never" or environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE,
        credentials=Path(environ.get("ROUNDHOUSE_CREDENTIALS_DIR", "/credentials")),
        parallelism=round(_number(environ, "ROUNDHOUSE_LOADER_PARALLELISM", 4, most=32)),
        patience_seconds=_number(environ, "ROUNDHOUSE_LOADER_PATIENCE_SECONDS", 300, most=86_400),
        timeout_seconds=_number(environ, "ROUNDHOUSE_LOADER_TIMEOUT_SECONDS", 60, most=3_600),
    )


def _number(environ: Mapping[str, str], name: str, default: int, *, most: int) -> float:
    text = environ.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise _invalid(name, f"is {text!r}; give a whole number from 1 to {most}")
    return int(text)


def _invalid(name: str, problem: str) -> LoadError:
    return LoadError(Reason.INVALID_SOURCE, f"{name} {problem}")
