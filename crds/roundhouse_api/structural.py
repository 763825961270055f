"""From pydantic's JSON schema to the structural schema that a CRD carries.

Structural schemas know no references, no null and no titles; a default is a value that the API
server writes into the object. So: references are inlined, `X or null` becomes X, and a default of
None or of an empty list is left out, because absent says the same.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Final

from pydantic import BaseModel

from roundhouse_api.model import Manifest
from roundhouse_api.scalars import INT32_MAX

_KEPT: Final[tuple[str, ...]] = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "anyOf",
    "required",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)
"""In this order, before properties and items. All else in pydantic's output only helps other tools."""

_KNOWN: Final = frozenset({*_KEPT, "$ref", "properties", "items", "additionalProperties", "const", "title"})


def structural_schema(model: type[BaseModel]) -> Manifest:
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(schema, schema.get("$defs", {}))


def as_status(schema: Manifest) -> Manifest:
    """The schema of a status: nothing is filled in, and all below it but the conditions is owned whole.

    The operator alone writes it; ownership item by item would double the stored object.
    """
    status = _without_defaults(schema)
    for name, field in status["properties"].items():
        if field.get("type") == "array" and name != "conditions":
            field["x-kubernetes-list-type"] = "atomic"
        elif field.get("type") == "object":
            field["x-kubernetes-map-type"] = "atomic"
    return status


def _without_defaults(schema: Manifest) -> Manifest:
    result = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in schema:
        result["properties"] = {name: _without_defaults(each) for name, each in schema["properties"].items()}
    if "items" in schema:
        result["items"] = _without_defaults(schema["items"])
    return result


def _structural(schema: Manifest, definitions: Manifest) -> Manifest:
    node = _flattened(schema, definitions)
    unknown = node.keys() - _KNOWN
    if unknown:
        raise ValueError(f"no rule for {sorted(unknown)} of the schema {node!r}: add one to structural.py")
    result: Manifest = {key: deepcopy(node[key]) for key in _KEPT if key in node}
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    if result.get("type") == "integer":
        result["format"] = "int32" if node.get("maximum", INT32_MAX + 1) <= INT32_MAX else "int64"
    if result.get("default", ...) in (None, [], ()):
        del result["default"]
    if "properties" in node:
        result["properties"] = {
            name: _structural(each, definitions) for name, each in node["properties"].items()
        }
    if "items" in node:
        result["items"] = _structural(node["items"], definitions)
    if isinstance(values := node.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(values, definitions)
    return result


def _flattened(schema: Manifest, definitions: Manifest) -> Manifest:
    """The schema without reference and without null; what stands beside a reference wins."""
    node = {key: value for key, value in schema.items() if key != "$defs"}
    while True:
        if "$ref" in node:
            target = definitions[node.pop("$ref").removeprefix("#/$defs/")]
            node = {**target, **node}
            continue
        others = [each for each in node.get("anyOf", ()) if each != {"type": "null"}]
        if len(others) == 1:
            del node["anyOf"]
            node = {**others[0], **node}
            continue
        break
    if "const" in node:
        node["enum"] = [node["const"]]
    return node
