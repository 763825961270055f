"""`roundhouse what-if`: what applying a file would change, or what the operator would do now. Read-only."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.commands.asking_for import Asked, UnreadableError, read_manifests, try_out
from roundhouse_operator.commands.connecting import NOT_SO, add_options, ask
from roundhouse_operator.commands.consequences import consequences
from roundhouse_operator.commands.exits import FAILURE, SUCCESS, USAGE_ERROR, Commands, complain
from roundhouse_operator.commands.page import columns, section
from roundhouse_operator.commands.picture import Picture, take_picture
from roundhouse_operator.core.kinds import ENGINE, VARIANT, Key, Kind

_KINDS: Final[dict[str, Kind]] = {
    **dict.fromkeys(("engine", "engines", "eng"), ENGINE),
    **dict.fromkeys(("modelvariant", "modelvariants", "variant", "mv"), VARIANT),
}
_SIGNS: Final = {"create": "+", "change": "~", "delete": "-"}
_NODES_SHOWN: Final = 8


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "what-if",
        help="print what applying a file would change, and why, without writing",
        description="With -f: what applying the file would do. Without: what the operator would do now to "
        "one resource or to all of the namespace. Nothing is written; manifests are tried on the API server "
        "in a dry run. Exit status: 0, also where something would change; 3 if something would be refused; 1 "
        "where that cannot be told; 2 for wrong usage.",
    )
    parser.add_argument("resource", nargs="?", metavar="KIND/NAME", help="engine/NAME or modelvariant/NAME")
    parser.add_argument(
        "-f", "--filename", action="append", default=[], metavar="FILE", help="manifests; `-`: standard input"
    )
    parser.add_argument(
        "--field-manager",
        default="kubectl",
        help="in whose name manifests are tried; default: kubectl, as `kubectl apply --server-side`",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.resource and arguments.filename:
        return complain("Name either a resource or files, not both", USAGE_ERROR)
    try:
        manifests = [one for name in arguments.filename for one in read_manifests(_text(name), name)]
        named = _named(arguments.resource) if arguments.resource else None
    except (UnreadableError, OSError) as error:
        return complain(str(error), USAGE_ERROR)
    if arguments.filename and not manifests:
        return complain("The files hold no Engine, ModelVariant, Adapter or SelectionPolicy", USAGE_ERROR)

    async def question(cluster: Cluster, namespace: str) -> int:
        picture = await take_picture(cluster, namespace)
        if named and picture.cache.resource(Key(named[0], namespace, named[1])) is None:
            return complain(f"There is no {named[0]} {named[1]!r} in namespace {namespace!r}", FAILURE)
        return await _answer(picture, manifests, named, output=arguments.output)

    return ask(arguments, arguments.field_manager, question)


async def _answer(
    picture: Picture, manifests: list[Manifest], named: tuple[Kind, str] | None, *, output: str
) -> int:
    keys = picture.keys(VARIANT)
    before = {key: picture.cache.world(key) for key in keys}
    # Engines first, because a variant may rest on one of the same file.
    ordered = sorted(manifests, key=lambda one: one["kind"] != ENGINE.name)
    asked = [await try_out(picture, manifest) for manifest in ordered]
    told: Manifest = {
        "namespace": picture.namespace,
        "asked": [_as_json(one) for one in asked],
        "variants": await consequences(picture, before, named, asked=bool(manifests)),
        "lacking": sorted(picture.lacking),
    }
    text = json.dumps(told, indent=2) if output == "json" else "\n".join(_page(told))
    sys.stdout.write(text + "\n")
    refused = any(one.verdict == "refused" for one in asked) or any(
        one["refused"] for one in told["variants"]
    )
    return NOT_SO if refused else SUCCESS


def _named(resource: str) -> tuple[Kind, str]:
    kind, _, name = resource.partition("/")
    if kind.lower() not in _KINDS or not name:
        raise UnreadableError(f"{resource!r} is no engine/NAME or modelvariant/NAME")
    return _KINDS[kind.lower()], name


def _text(name: str) -> str:
    return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")


def _as_json(asked: Asked) -> Manifest:
    fields = [{"path": one.path, "before": one.before, "after": one.after} for one in asked.fields]
    return {
        "kind": asked.key.kind.name,
        "name": asked.key.name,
        "verdict": asked.verdict,
        "message": asked.message,
        "fields": fields,
    }


def _page(told: Manifest) -> list[str]:
    lines = [line for one in told["asked"] for line in _asked(one)]
    for one in told["variants"]:
        lines += ["", *_variant(one)]
    if not told["variants"]:
        lines += [
            "",
            "No variant would be changed by it." if told["asked"] else "The operator would change nothing.",
        ]
    return [*lines, *section("Left out for want of these rights", told["lacking"])]


def _asked(one: Manifest) -> list[str]:
    head = f"{one['kind']} {one['name']}: {one['verdict']}" + (
        f": {one['message']}" if one["message"] else ""
    )
    return [head, *columns((_change(field) for field in one["fields"]), indent="  ")]


def _change(field: Manifest) -> tuple[str, str]:
    return field["path"], f"{field['before'] or '(none)'} → {field['after'] or '(none)'}"


def _variant(one: Manifest) -> list[str]:
    return [
        f"ModelVariant {one['name']}" + (" (new)" if one["new"] else ""),
        *(f"  {line}" for line in _children(one["children"])),
        *([f"  Pods: {one['pods']}"] if one["pods"] else []),
        *([f"  Placement: {one['placement']}"] if one["placement"] else []),
        *(f"    {line}" for line in _nodes(one["nodes"])),
        *columns(
            (
                (each["type"], each["before"] or "(none)", "→", each["after"] or "(gone)", each["message"])
                for each in one["conditions"]
            ),
            indent="  ",
        ),
    ]


def _children(children: list[Manifest]) -> list[str]:
    lines = []
    for child in children:
        lines.append(
            f"{_SIGNS[child['verb']]} {child['child']}"
            + (f": refused: {child['refused']}" if child["refused"] else "")
        )
        lines += columns((_change(field) for field in child["fields"]), indent="    ")
    return lines


def _nodes(nodes: list[Manifest]) -> list[str]:
    shown = columns((one["verdict"], one["name"], one["devices"]) for one in nodes[:_NODES_SHOWN])
    more = [f"and {len(nodes) - _NODES_SHOWN} more: -o json lists all"] if len(nodes) > _NODES_SHOWN else []
    return shown + more
