"""The reference pages on fields and on conditions, made from the models. Pure: returns Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.crdgen import build_crd, crd_name
from roundhouse_api.kinds import KINDS, Kind
from roundhouse_api.model import Manifest
from roundhouse_api.names import API_VERSION, CATEGORY

_NOTICE: Final = "<!-- Made from crds/roundhouse_api by `make gen`. Change the models instead. -->\n"
_NUMBER_BOUNDS: Final = (("minimum", "from {}"), ("maximum", "to {}"))
_SIZE_BOUNDS: Final = (
    ("minLength", "not empty"),
    ("maxLength", "at most {} characters"),
    ("minItems", "not empty"),
    ("maxItems", "at most {} items"),
    ("maxProperties", "at most {} entries"),
)


def api_reference() -> str:
    """docs/reference/api.md: every field of every kind, with type, default, bounds and description."""
    intro = (
        f"# API reference: `{API_VERSION}`\n\n{_NOTICE}\n"
        f"All kinds are namespaced; `kubectl get {CATEGORY} -A` lists the objects of all of them.\n"
        "References never cross namespaces. `!` marks a field that must be set. Quantities are Kubernetes'\n"
        'own (`15G`, `512Mi`); a decimal is a quoted number such as `"0.05"`. `kubectl explain` shows the\n'
        "same text. What the conditions mean is in [conditions.md](conditions.md).\n"
    )
    return "\n".join([intro, *(_kind_section(kind) for kind in KINDS)])


def conditions_reference() -> str:
    """docs/reference/conditions.md: condition types, then reasons with what to do about each."""
    types = (
        f"| `{each}` | {', '.join(f'`{kind}`' for kind in each.kinds)} | {_cell(each.meaning)} |"
        for each in ConditionType
    )
    reasons = (f"| `{each}` | {_cell(each.meaning)} | {_cell(each.advice)} |" for each in Reason)
    return "\n".join(
        [
            f"# Conditions and reasons\n\n{_NOTICE}",
            "`kubectl describe` shows the conditions of a resource. Each has a status, a reason for machines",
            "and a message for people. `Ready` sums up the others; its reason is that of the first that",
            "fails. `kubectl wait --for=condition=Ready` waits until requests are answered, now or after a",
            "cold start, `--for=condition=Available` until they are answered at once, and",
            "`--for=condition=UpToDate` until a change has reached all pods.\n",
            "## Conditions\n",
            "| condition | on | it is True when |",
            "|---|---|---|",
            *types,
            "\n## Reasons\n",
            "| reason | meaning | what to do |",
            "|---|---|---|",
            *reasons,
            "",
        ]
    )


def _kind_section(kind: Kind) -> str:
    schema = build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    parts = [
        f"## {kind.name}\n\n{schema['description']}\n",
        f"`{crd_name(kind)}`, short name `{kind.short_name}`.\n",
        "Rules that span fields:\n",
        *(f"- {where}: {_cell(message)}" for where, message in _rules("", schema)),
    ]
    for part in ("spec", "status"):
        fields = _fields(part, schema["properties"][part], required=part in schema["required"])
        parts += [
            f"\n### {kind.name} {part}\n",
            "| field | type | default | bounds | description |",
            "|---|---|---|---|---|",
            *(_row(path, field) for path, field in fields),
        ]
    return "\n".join([*parts, ""])


def _rules(path: str, schema: Manifest) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"`{path or 'metadata.name'}`", rule["message"]
    for name, child in schema.get("properties", {}).items():
        if name != "status":
            yield from _rules(f"{path}.{name}".removeprefix("."), child)
    if "items" in schema:
        yield from _rules(f"{path}[]", schema["items"])


def _fields(path: str, schema: Manifest, *, required: bool) -> Iterator[tuple[str, Manifest]]:
    """Each field below a part, in the order in which it is written, parents before children."""
    yield path + ("!" if required else ""), schema
    inner = schema.get("items", schema)
    below = f"{path}[]" if "items" in schema else path
    needed = inner.get("required", ())
    yield from chain.from_iterable(
        _fields(f"{below}.{name}", child, required=name in needed)
        for name, child in inner.get("properties", {}).items()
    )


def _row(path: str, field: Manifest) -> str:
    default = f"`{_plain(field['default'])}`" if "default" in field else ""
    description = _cell(field.get("description", ""))
    return f"| `{path}` | {_type(field)} | {default} | {_cell(_bounds(field))} | {description} |"


def _plain(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(map(_plain, value))}]"
        case _:
            return str(value)


def _type(field: Manifest) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "items" in field:
        return _list_type(field)
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    return "enum" if "enum" in field else str(field["type"])


def _list_type(field: Manifest) -> str:
    item = _type(field["items"])
    match field["x-kubernetes-list-type"]:
        case "set":
            return f"set of {item}"
        case "map":
            return f"list of {item} by {', '.join(field['x-kubernetes-list-map-keys'])}"
        case _:
            return f"list of {item}"


def _bounds(field: Manifest) -> str:
    """Values and sizes; of a list or a map also those of what is in it."""
    inner = field.get("items") or field.get("additionalProperties") or {}
    said = [] if field.get("x-kubernetes-int-or-string") else _own_bounds(field)
    if "properties" not in inner and not inner.get("x-kubernetes-int-or-string"):
        said += [f"each {bound}" for bound in _own_bounds(inner)]
    return "; ".join(said)


def _own_bounds(field: Manifest) -> list[str]:
    said = []
    if "enum" in field:
        said.append("one of " + ", ".join(f"`{value}`" for value in field["enum"]))
    said.append(" ".join(text.format(field[key]) for key, text in _NUMBER_BOUNDS if key in field))
    said += [text.format(field[key]) for key, text in _SIZE_BOUNDS if key in field]
    if "pattern" in field:
        said.append(f"matches `{field['pattern']}`")
    if "format" in field and field["type"] == "string":
        said.append(field["format"])
    return [bound for bound in said if bound]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
