"""The Secret that is mounted for the source, a file for each of its keys, and what of it is secret."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from .failure import LoadError, Reason


def read_credentials(folder: Path) -> dict[str, str]:
    """Values by key, without a last line break; empty where nothing is mounted."""
    if not folder.is_dir():
        return {}
    # A mounted Secret also holds the kubelet's own `..data` and `..2026_…`.
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".."))
    try:
        return {path.name: path.read_text().rstrip("\r\n") for path in files}
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(
            Reason.INVALID_SOURCE,
            f"the credentials in {str(folder)!r} cannot be read: {type(error).__name__}; "
            "the Secret must hold text and be mounted readable",
        ) from error


def secret_values(credentials: Mapping[str, str]) -> list[str]:
    """Everything in the credentials that must not be shown, also what is inside of JSON."""
    values = list(credentials.values())
    for text in credentials.values():
        try:
            values += _leaves(json.loads(text))
        except ValueError:
            continue
    return values


def _leaves(value: object) -> list[str]:
    if isinstance(value, dict):
        return [leaf for key, each in value.items() for leaf in _leaf(str(key), each)]
    if isinstance(value, list):
        return [leaf for each in value for leaf in _leaves(each)]
    return []


def _leaf(key: str, value: object) -> list[str]:
    secret = ("password", "token", "auth", "private_key", "private_key_id", "secret", "client_secret")
    if not isinstance(value, str):
        return _leaves(value)
    if not key.lower().endswith(secret):
        return []
    return [value, *_decoded(value)] if key == "auth" else [value]


def _decoded(value: str) -> list[str]:
    try:
        text = base64.b64decode(value, validate=True).decode()
    except ValueError:
        return []
    return [text, text.partition(":")[2]]
