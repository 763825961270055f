"""What is wrong with JSON that a client has sent, in words for its author: the decoder speaks of types."""

import re
from typing import Final, NamedTuple

_TYPE: Final = re.compile(r"Expected `([a-z| ]+)`, got `([a-z]+)`")
_KINDS: Final = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number with a fraction",
    "str": "a text",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_WANTED: Final = _KINDS | {"float": "a number"}
"""Where one with a fraction is wanted, a whole number will do."""


class Wrong(NamedTuple):
    """`param` is the path of the field at fault, empty where it is the whole; `message` has no full stop."""

    param: str
    message: str


def wrong_in(error: Exception) -> Wrong:
    """What a decoder of msgspec has found."""
    message, _, place = str(error).partition(" - at ")
    param = place.strip("`").removeprefix("$").removeprefix(".")
    if (found := _TYPE.fullmatch(message)) is not None:
        wanted = [_WANTED.get(each, each) for each in found[1].split(" | ") if each != "null"]
        message = f"must be {' or '.join(wanted)}, not {_KINDS.get(found[2], found[2])}"
        return Wrong(param, f"`{param}` {message}" if param else f"it {message}")
    return Wrong(param, f"`{param}`: {message}" if param else message)
