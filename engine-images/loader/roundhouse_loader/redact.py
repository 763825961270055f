"""Keeps secrets out of everything that is written: logs, errors, the termination message. Pure.

Two nets: values known to be secret are replaced wherever they stand, and of every address user, password
and query are cut off, because a signed address is a credential itself.
"""

import base64
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

HIDDEN: Final = "***"
_SHORTEST: Final = 6  # a shorter value would blot out ordinary words
_ADDRESS: Final = re.compile(r"\b([a-z][a-z0-9+.-]*://)([^\s\"'<>]*)", re.IGNORECASE)
_SCHEME: Final = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)


class Redactor:
    """Replaces secrets in text. Knows the values that it is told, in plain, quoted and base64 form."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        known = set(self._secrets)
        for secret in secrets:
            if len(secret) >= _SHORTEST:
                known |= {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode()}
        # The longest first, or a secret that holds another one would be cut in two and half of it shown.
        self._secrets = sorted(known, key=lambda each: (-len(each), each))

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        text = _SCHEME.sub(lambda found: f"{found[1]} {HIDDEN}", text)
        return _ADDRESS.sub(lambda found: found[1] + _bare(found[2]), text)


def shown(address: str) -> str:
    """An address fit to be shown: without user, password, query and fragment."""
    return _ADDRESS.sub(lambda found: found[1] + _bare(found[2]), address)


def _bare(rest: str) -> str:
    rest, mark, _ = rest.partition("?")
    rest = rest.partition("#")[0]
    host, slash, path = rest.partition("/")
    return f"{host.rpartition('@')[2]}{slash}{path}{'?' + HIDDEN if mark else ''}"
