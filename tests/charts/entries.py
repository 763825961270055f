"""Makes the schemas of the catalogue's entries in the chart's values from those of the API. Pure.

An entry is laid over one of the catalogue's, so what the API requires may be left out, and null takes a
member away. A list takes the place of the other's, so what is in one is whole.
"""

from typing import Any

from roundhouse_api.crdgen import build_crd
from roundhouse_api.kinds import KINDS

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_OWN_WORDS = ("servedName", "engineRef")
"""Of a ModelVariant: an entry says them as `name` and `engine`."""
_DROPPED = ("default", "format", "title", "nullable")


def entry_definitions() -> dict[str, Schema]:
    """`modelEntry`, `engineEntry` and `cache`, for the definitions of values.schema.json."""
    variant, engine = _spec("ModelVariant"), _spec("Engine")
    model_words: Schema = {
        "name": {**_TEXT, "description": "The public id. Absent: the repository's name."},
        "object": {**_TEXT, "description": "`metadata.name`. Absent: made of `name`."},
        "repo": {**_TEXT, "description": "Repository of the Hugging Face Hub, as `source.huggingFace.repo`."},
        "engine": {**_TEXT, "description": "An engine of the catalogue or of `engines`."},
        "enabled": {"type": "boolean", "description": "Whether something can serve it."},
        "reason": {**_TEXT, "description": "Why nothing can, where `enabled` is off."},
        "gated": {"type": "boolean", "description": "Whether fetching it needs `catalogue.hubToken`."},
        "new": {
            "type": "boolean",
            "description": "Whether it is a new entry though one with these weights is there.",
        },
    }
    engine_words: Schema = {
        "name": {**_TEXT, "description": "`metadata.name`.", "maxLength": 40},
        "image": {
            "type": "object",
            "description": "An image of `image.registry`.",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {"name": _TEXT, "tag": _TEXT, "gpu": {"type": "boolean"}},
        },
    }
    members = {key: value for key, value in variant["properties"].items() if key not in _OWN_WORDS}
    return {
        "modelEntry": _entry(model_words, {**variant, "properties": members}),
        "engineEntry": {**_entry(engine_words, engine), "required": ["name"]},
        "cache": _whole(engine["properties"]["cache"]),
    }


def _spec(kind: str) -> Schema:
    [found] = [each for each in KINDS if each.name == kind]
    schema = build_crd(found)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return dict(schema["properties"]["spec"])


def _entry(words: Schema, spec: Schema) -> Schema:
    made = _closed(spec, partial=True)
    return {**made, "type": "object", "properties": {**words, **made["properties"]}}


def _partial(schema: Schema) -> Schema:
    """What may be laid over a member of this schema."""
    made = _closed(schema, partial=True)
    made["type"] = [*_types(made), "null"]
    if "enum" in made:
        made["enum"] = [*made["enum"], None]
    return made


def _whole(schema: Schema) -> Schema:
    return _closed(schema, partial=False)


def _closed(schema: Schema, *, partial: bool) -> Schema:
    """The schema in words of JSON Schema, with every object closed that lists its members."""
    dropped = (*_DROPPED, "required") if partial else _DROPPED
    made = {key: value for key, value in schema.items() if not key.startswith("x-") and key not in dropped}
    if schema.get("x-kubernetes-int-or-string"):
        made = {key: made[key] for key in ("description", "pattern", "maxLength") if key in made}
        return made | {"type": ["integer", "string"]}
    inside = _partial if partial else _whole
    if "properties" in made:
        made["properties"] = {name: inside(member) for name, member in made["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    elif isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = inside(made["additionalProperties"])
    if "items" in made:
        made["items"] = _whole(made["items"])
    return made


def _types(schema: Schema) -> list[str]:
    found = schema["type"]
    return list(found) if isinstance(found, list) else [found]
