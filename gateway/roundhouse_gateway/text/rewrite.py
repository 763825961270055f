"""The body that an engine is sent: the client's own bytes, with as little changed as can be.

Only the name of the model is put in its place, and defaults are added behind. A body that could be read in
two ways (a key `model` twice, or written with escapes or capitals, which some engines take for the same) is
written anew: what was authorised is then what every engine reads.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

_PLAIN: Final = b'"model"'
_ESCAPED_LETTER: Final = re.compile(rb"\\u00[46][fF45cCdD]")
"""One of the letters of `model`, in either case."""
_MODEL: Final = re.compile(rb'"model"\s*:\s*("[^"\\]*")')
"""A name that is written without escapes."""
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def rewrite(body: bytes, asked: str | None, model: str, defaults: Mapping[str, msgspec.Raw]) -> bytes:
    """`body` is a JSON object that was read before; `asked` is its `model`, None where it has none."""
    return rewritten(body, asked, msgspec.json.encode(model), defaults)


def rewritten(body: bytes, asked: str | None, name: bytes, defaults: Mapping[str, msgspec.Raw]) -> bytes:
    """The same with the model's name as JSON."""
    if asked is not None and not defaults and is_plain(body):
        found = _MODEL.match(body, body.find(_PLAIN))
        if found is not None:
            start, end = found.span(1)
            return body if body[start:end] == name else b"".join((body[:start], name, body[end:]))
    members = _MEMBERS.decode(body)
    return msgspec.json.encode(with_members(members, name, defaults))


def with_members(
    members: Mapping[str, msgspec.Raw], name: bytes, defaults: Mapping[str, msgspec.Raw]
) -> dict[str, msgspec.Raw]:
    """The members in their order, `model` where it was, what the client left out at the end."""
    named: dict[str, msgspec.Raw] = {}
    for key, value in members.items():
        named[key if key.lower() != "model" else "model"] = value
    named["model"] = msgspec.Raw(name)
    for key, value in defaults.items():
        named.setdefault(key, value)
    return named


def is_plain(body: bytes) -> bool:
    """Whether the only key that could be taken for `model` is written just so, once."""
    if body.lower().count(_PLAIN) != 1 or body.find(_PLAIN) < 0:  # `in` would try for a number first
        return False
    return body.find(b"\\") < 0 or _ESCAPED_LETTER.search(body) is None
