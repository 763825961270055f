"""Turns an API server's OpenAPI document into the schemas that kubeconform reads. Pure.

So that manifests are judged by the very server that will get them, custom resources included, and nothing is
downloaded. Strict: a field that the server does not know is an error.
"""

from typing import Any

Schema = dict[str, Any]
DEFINITIONS_FILE = "definitions.json"
# The document calls these strings; the server takes numbers as well.
EITHER = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
}


def kubeconform_schemas(openapi: Schema) -> dict[str, Schema]:
    """Schemas by file name: `<kind>-<group>-<version>.json` in lower case, all over one shared file."""
    definitions: Schema = openapi["definitions"]
    files: dict[str, Schema] = {
        DEFINITIONS_FILE: {
            "definitions": {
                name: {"type": ["string", "number"]} if name in EITHER else _strict(definition)
                for name, definition in definitions.items()
            }
        }
    }
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            parts = [kind["kind"], kind["group"].split(".")[0], kind["version"]]
            file = "-".join(part for part in parts if part).lower() + ".json"
            files[file] = {"$ref": f"{DEFINITIONS_FILE}#/definitions/{name}"}
    return files


def _strict(schema: Any) -> Any:
    """The schema with every object closed that lists its fields and does not keep unknown ones."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    if schema.get("format") == "int-or-string":
        closed["type"] = ["string", "integer"]
    return closed
