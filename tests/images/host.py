"""How this machine reaches a package index: its own mirror, its own certificates, its own uv.

A build must use the same ones, and an image must carry none of them, so they are handed to the build as
secret files. The rules are those of uv and pip: the environment first, then their configuration files.
"""

import configparser
import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.local.paths import cache_root

SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# What of a uv.toml says where packages come from; all else of it is about the person's own work.
INDEX_KEYS = ("index", "index-url", "extra-index-url", "index-strategy", "allow-insecure-host")


def certificates(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The bundle of certificates that this machine trusts; None leaves the base image's own."""
    named = (environment.get(name) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"))
    candidates = [Path(name) for name in named if name]
    return next((path for path in [*candidates, SYSTEM_CERTIFICATES] if path.is_file()), None)


def index_settings(environment: Mapping[str, str] = os.environ, home: Path | None = None) -> str:
    """A uv.toml that names this machine's package index; empty where it uses PyPI."""
    home = home or Path.home()
    settings = _uv_settings(home) or _pip_settings(environment, home)
    if url := environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL"):
        settings["index-url"] = url
    if urls := environment.get("UV_INDEX") or environment.get("UV_EXTRA_INDEX_URL"):
        settings["extra-index-url"] = urls.split()
    if hosts := environment.get("UV_INSECURE_HOST"):
        settings["allow-insecure-host"] = hosts.split()
    return "".join(f"{key} = {_toml(value)}\n" for key, value in settings.items())


def find_uv() -> Path | None:
    """The uv that this project runs with, as a program and not a wrapper script; None if there is none."""
    pinned = sorted(cache_root().glob("uv-*/bin/uv"), reverse=True)
    for candidate in (*pinned, os.environ.get("UV"), shutil.which("uv")):
        if candidate and (program := _program(Path(candidate))):
            return program
    return None


def uv_version(uv: Path) -> str:
    shown = subprocess.run([uv, "--version"], capture_output=True, text=True, check=True).stdout
    return shown.split()[1]


def _program(uv: Path) -> Path | None:
    """The real uv: pyenv, for one, puts a script of that name on PATH. uv tells its children where it is."""
    if not uv.is_file():
        return None
    with uv.open("rb") as file:
        if file.read(4) == b"\x7fELF":
            return uv
    asked = [str(uv), "run", "--no-project", "--offline", "printenv", "UV"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return Path(answer) if answer else None


def _uv_settings(home: Path) -> dict[str, object]:
    for path in (home / ".config/uv/uv.toml", Path("/etc/uv/uv.toml")):
        if path.is_file():
            settings = tomllib.loads(path.read_text())
            return {key: settings[key] for key in INDEX_KEYS if key in settings}
    return {}


def _pip_settings(environment: Mapping[str, str], home: Path) -> dict[str, object]:
    settings: dict[str, object] = {}
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    named = environment.get("PIP_CONFIG_FILE")
    parser.read(
        [
            Path("/etc/pip.conf"),
            home / ".pip/pip.conf",
            home / ".config/pip/pip.conf",
            *([named] if named else []),
        ]
    )
    if url := environment.get("PIP_INDEX_URL") or parser.get("global", "index-url", fallback=None):
        settings["index-url"] = url
    if urls := environment.get("PIP_EXTRA_INDEX_URL") or parser.get(
        "global", "extra-index-url", fallback=None
    ):
        settings["extra-index-url"] = urls.split()
    if hosts := environment.get("PIP_TRUSTED_HOST") or parser.get("global", "trusted-host", fallback=None):
        settings["allow-insecure-host"] = hosts.split()
    return settings


def _toml(value: object) -> str:
    """TOML of the few shapes that an index takes. A JSON string is a TOML string."""
    match value:
        case bool() | str() | int():
            return json.dumps(value)
        case list():
            return f"[{', '.join(_toml(item) for item in value)}]"
        case dict():
            return f"{{{', '.join(f'{json.dumps(key)} = {_toml(item)}' for key, item in value.items())}}}"
        case _:
            raise TypeError(f"an index setting cannot be {value!r}")
