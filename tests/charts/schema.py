"""Makes the chart's values.schema.json from its values. Pure.

Strict on purpose: a value that is not in values.yaml is refused by name, so that a typing error fails at
`helm install` and not at three in the morning.
"""

import json
from collections.abc import Sequence
from typing import Any

from .entries import entry_definitions
from .values import Value, ValuesError

Schema = dict[str, Any]


def _closed(properties: Schema, *required: str) -> Schema:
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**schema, "required": list(required)} if required else schema


_TEXT: Schema = {"type": "string"}
_QUANTITIES: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
_KEY_REF: Schema = _closed({"name": _TEXT, "key": _TEXT, "optional": {"type": "boolean"}}, "name", "key")

# Kubernetes' own shapes, as far as a typing error in them is likely. The API server judges the rest.
DEFINITIONS: Schema = {
    "nameRef": _closed({"name": _TEXT}, "name"),
    "resources": _closed({"requests": _QUANTITIES, "limits": _QUANTITIES, "claims": {"type": "array"}}),
    "toleration": _closed(
        {
            "key": _TEXT,
            "operator": {"enum": ["Exists", "Equal"]},
            "value": _TEXT,
            "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            "tolerationSeconds": {"type": "integer"},
        }
    ),
    "affinity": _closed(
        {name: {"type": "object"} for name in ("nodeAffinity", "podAffinity", "podAntiAffinity")}
    ),
    "topologySpreadConstraint": _closed(
        {
            "maxSkew": {"type": "integer", "minimum": 1},
            "minDomains": {"type": "integer", "minimum": 1},
            "topologyKey": _TEXT,
            "whenUnsatisfiable": {"enum": ["DoNotSchedule", "ScheduleAnyway"]},
            "labelSelector": {"type": "object"},
            "matchLabelKeys": {"type": "array", "items": _TEXT},
            "nodeAffinityPolicy": {"enum": ["Honor", "Ignore"]},
            "nodeTaintsPolicy": {"enum": ["Honor", "Ignore"]},
        },
        "maxSkew",
        "topologyKey",
        "whenUnsatisfiable",
    ),
    "envVar": _closed(
        {
            "name": {"type": "string", "minLength": 1},
            "value": _TEXT,
            "valueFrom": _closed(
                {
                    "secretKeyRef": _KEY_REF,
                    "configMapKeyRef": _KEY_REF,
                    "fieldRef": {"type": "object"},
                    "resourceFieldRef": {"type": "object"},
                }
            ),
        },
        "name",
    ),
    "ingressTLS": _closed({"hosts": {"type": "array", "items": _TEXT}, "secretName": _TEXT}),
}


def values_schema(values: Sequence[Value]) -> str:
    """The whole values.schema.json, as it is written."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "Made from values.yaml by `make gen`. Change that instead.",
        "title": "Values of the chart roundhouse",
        **_closed({value.path[-1]: _schema(value) for value in values}),
        "definitions": DEFINITIONS | entry_definitions(),
    }
    # Helm itself puts it there when the chart is part of another.
    schema["properties"]["global"] = {"type": "object", "description": "Values that a parent chart shares."}
    return json.dumps(schema, indent=2) + "\n"


def _schema(value: Value) -> Schema:
    described: Schema = {"description": value.description}
    if value.members:
        return described | _closed({member.path[-1]: _schema(member) for member in value.members})
    if "$ref" in value.narrowed:
        # Draft 7 ignores what stands beside a reference.
        return described | {"allOf": [value.narrowed], "default": value.default}
    return described | _type_of(value) | value.narrowed | {"default": value.default}


def _type_of(value: Value) -> Schema:
    if "type" in value.narrowed:
        return {}
    match value.default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case str():
            return {"type": "string"}
        case list() if "items" in value.narrowed:
            return {"type": "array"}
        case dict() if "additionalProperties" in value.narrowed:
            return {"type": "object"}
    raise ValuesError(f"values.yaml: {value.name!r} needs an `@schema` line that says what may be in it")
