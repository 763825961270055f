"""OpenAI's published schemas, to hold answers against: its clients accept what they forbid."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

PUBLISHED = Path(__file__).parents[1] / "data/openai/schemas.json"


@cache
def _validator(name: str) -> Draft202012Validator:
    published = json.loads(PUBLISHED.read_text(), object_hook=_with_null)
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", **published})


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI's `nullable` in the words of JSON Schema, which does not know it."""
    if schema.get("nullable") is not True or "type" not in schema:
        return schema
    enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **enum}


def assert_valid(name: str, body: Any) -> None:
    """That the body is what OpenAI calls by that name."""
    faults = [f"{error.json_path}: {error.message}" for error in _validator(name).iter_errors(body)]
    assert faults == [], f"{body} is no {name}"
