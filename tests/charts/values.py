"""Reads values.yaml with its comments: each value's documentation, default and narrowed schema. Pure.

A value's comment stands right above it. Its lines that begin with `@schema` are YAML and narrow what it may
be; the others are its documentation. What is made of them is decided in `schema` and `pages`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

MARK = "@schema "


class ValuesError(Exception):
    """values.yaml does not say enough of a value. The message names the value and what is missing."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value. A group has `members`; all others have a default."""

    path: tuple[str, ...]
    description: str
    default: Any
    narrowed: dict[str, Any]
    members: tuple["Value", ...] = ()

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def leaves(self) -> Iterator["Value"]:
        """The values that can be set, in the file's order."""
        if not self.members:
            yield self
        for member in self.members:
            yield from member.leaves()


def parse_values(text: str) -> tuple[Value, ...]:
    """The top-level values of a values.yaml."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise ValuesError("values.yaml must be a mapping")
    return tuple(_members(root, text.splitlines(), ()))


def _members(node: yaml.MappingNode, lines: list[str], parent: tuple[str, ...]) -> Iterator[Value]:
    for key, content in node.value:
        path = (*parent, str(key.value))
        description, narrowed = _comment(lines, key.start_mark.line, ".".join(path))
        is_group = isinstance(content, yaml.MappingNode) and bool(content.value) and not narrowed
        yield Value(
            path=path,
            description=description,
            default=yaml.safe_load(yaml.serialize(content)),
            narrowed=narrowed,
            members=tuple(_members(content, lines, path)) if is_group else (),
        )


def _comment(lines: list[str], key_line: int, name: str) -> tuple[str, dict[str, Any]]:
    """Documentation and schema from the comment lines right above `key_line`."""
    first = key_line
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    said = [line.lstrip()[1:].strip() for line in lines[first:key_line]]
    narrowed: dict[str, Any] = {}
    for line in said:
        if line.startswith(MARK):
            narrowed |= yaml.safe_load(line.removeprefix(MARK))
    description = " ".join(line for line in said if not line.startswith(MARK))
    if not description:
        raise ValuesError(f"values.yaml: {name!r} has no comment right above it that says what it is")
    return description, narrowed
