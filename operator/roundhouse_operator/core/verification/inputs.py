"""What a key of a ConfigMap holds for a test, or why nothing. Reading ConfigMaps is left to others."""

from __future__ import annotations

import base64
import binascii
import hashlib

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_operator.core.verification.proof import Input


def read_input(name: str, key: str, found: Manifest | str) -> tuple[Input, bytes]:
    """`found` is the ConfigMap, or why there is none. Of the content only a hash is to be kept."""
    if isinstance(found, str):
        return _missing(found)
    binary, text = found.get("binaryData") or {}, found.get("data") or {}
    if key in text:
        content = text[key].encode()
    elif key in binary:
        try:
            content = base64.b64decode(binary[key], validate=True)
        except binascii.Error as error:
            return _missing(f"key {key!r} of ConfigMap {name!r} is not base64: {error}")
    else:
        return _missing(f"ConfigMap {name!r} has no key {key!r}")
    return Input(hashlib.sha256(content).hexdigest()[:16]), content


def _missing(why: str) -> tuple[Input, bytes]:
    return Input(problem=(Reason.TEST_INPUT_NOT_FOUND, why)), b""
