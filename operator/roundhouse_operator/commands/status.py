"""`roundhouse status`: why is this one not ready? Read-only."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from typing import Final

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.model import Manifest
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.commands.connecting import NOT_SO, add_options, ask
from roundhouse_operator.commands.describing import describe
from roundhouse_operator.commands.exits import FAILURE, SUCCESS, Commands, complain
from roundhouse_operator.commands.page import columns, section
from roundhouse_operator.commands.picture import Picture, take_picture, variant_key
from roundhouse_operator.core.kinds import ENGINE, VARIANT, Key
from roundhouse_operator.core.preview import FITS

_MARKS: Final = {"True": "ok", "False": "NO", "Unknown": "?"}
_NODES_SHOWN: Final = 50


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "status",
        help="say which variants are ready, and for one that is not, why and what to do",
        description="Reads the cluster with the rights of the caller, writes nothing. Exit status: 0 if all "
        "that was asked for is Ready, 3 if something is not, 1 where that cannot be told, 2 for wrong usage.",
    )
    parser.add_argument("name", nargs="?", help="a ModelVariant; default: all of the namespace, in a table")
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    async def question(cluster: Cluster, namespace: str) -> int:
        picture = await take_picture(cluster, namespace)
        told = (
            _all(picture)
            if arguments.name is None
            else await describe(picture, variant_key(namespace, arguments.name))
        )
        if told is None:
            return complain(
                f"There is no ModelVariant {arguments.name!r} in namespace {namespace!r}", FAILURE
            )
        told["lacking"] = sorted(picture.lacking)
        if arguments.output == "json":
            sys.stdout.write(json.dumps(told, indent=2) + "\n")
        else:
            sys.stdout.write("\n".join(_table(told) if arguments.name is None else _tree(told)) + "\n")
        every = told["variants"] if arguments.name is None else [told]
        return SUCCESS if all(one["ready"] == "True" for one in every) else NOT_SO

    return ask(arguments, "roundhouse-status", question)


def _all(picture: Picture) -> Manifest:
    return {
        "namespace": picture.namespace,
        "engines": [_row(picture, key) for key in picture.keys(ENGINE)],
        "variants": [_row(picture, key) for key in picture.keys(VARIANT)],
    }


def _row(picture: Picture, key: Key) -> Manifest:
    resource = picture.cache.resource(key)
    status = resource.status if resource else {}
    ready = (resource.condition(ConditionType.READY) if resource else None) or {}
    degraded = (resource.condition(ConditionType.DEGRADED) if resource else None) or {}
    return {
        "name": key.name,
        "ready": ready.get("status", "Unknown"),
        "reason": ready.get("reason", Reason.PENDING.value),
        "degraded": degraded.get("reason", ""),
        "engine": (status.get("engine") or {}).get("name", ""),
        "pods": f"{status.get('readyReplicas', 0)}/{status.get('replicas', 0)}",
        "variants": status.get("variants", 0),
        "message": (degraded if ready.get("status") == "True" and degraded else ready).get("message", ""),
    }


def _table(told: Manifest) -> list[str]:
    if not told["engines"] and not told["variants"]:
        return [f"There is nothing in namespace {told['namespace']!r}; -n names another.", *_lacking(told)]
    variants = [
        (
            one["name"],
            one["ready"],
            one["reason"],
            one["degraded"],
            one["engine"],
            one["pods"],
            _why(one),
        )
        for one in told["variants"]
    ]
    engines = [
        (one["name"], one["ready"], one["reason"], one["degraded"], str(one["variants"]), _why(one))
        for one in told["engines"]
    ]
    return [
        *columns([("VARIANT", "READY", "REASON", "DEGRADED", "ENGINE", "PODS", ""), *variants]),
        "",
        *columns([("ENGINE", "READY", "REASON", "DEGRADED", "VARIANTS", ""), *engines]),
        *_lacking(told),
    ]


def _why(row: Manifest) -> str:
    return str(row["message"]) if row["degraded"] or row["ready"] != "True" else ""


def _tree(told: Manifest) -> list[str]:
    ready = {"True": "Ready", "False": "not Ready"}.get(told["ready"], "not known to be Ready")
    return [
        f"{told['kind']} {told['namespace']}/{told['name']}: {ready}, {told['reason']}",
        *([f"  {told['message']}"] if told["message"] else []),
        *([] if told["ready"] == "True" else [f"  What to do: {told['next']}"]),
        *_degraded(told),
        *section("Conditions", columns(_condition(one) for one in told["conditions"])),
        *section("Names", _names(told["names"])),
        *section("Engine", _engine(told["engine"])),
        *section(*_nodes(told["nodes"])),
        *section(f"Pods ({told['podsInAll']})", columns(_pod(one) for one in told["pods"])),
        *section("Weights", _facts(told.get("weights") or {})),
        *section("Rollout", _facts(told.get("rollout") or {})),
        *section("Verification", _verification(told.get("verification") or {})),
        *section(
            "Latest events",
            columns((one["time"], one["type"], one["reason"], one["note"]) for one in told["events"]),
        ),
        *_lacking(told),
    ]


def _degraded(told: Manifest) -> list[str]:
    """Of what serves nevertheless, or fails for another cause as well."""
    if not (found := told.get("degraded")) or (told["ready"] != "True" and found["reason"] == told["reason"]):
        return []
    return [f"  Degraded, {found['reason']}: {found['message']}", f"  What to do: {found['next']}"]


def _condition(one: Manifest) -> tuple[str, ...]:
    mark = _MARKS.get(one["status"], "?")
    if one["type"] in (ConditionType.DEGRADED, ConditionType.OWNERSHIP_CONFLICT):
        mark = "!"  # there only while something is wrong
    return mark, one["type"], one["reason"], one["message"]


def _names(names: Manifest) -> list[str]:
    published = [f"answers to {', '.join(names['published'])}"] if names["published"] else []
    return published + [f"{name} belongs to {owner}" for name, owner in names["lost"].items()]


def _engine(engine: Manifest) -> list[str]:
    if not engine:
        return []
    candidates = [
        (one["verdict"], one["engine"], one["reason"], one.get("message", "")) for one in engine["candidates"]
    ]
    return [engine["message"], *columns(candidates)]


def _nodes(nodes: list[Manifest]) -> tuple[str, list[str]]:
    counts = Counter(one["verdict"] for one in nodes)
    summed = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    ordered = sorted(nodes, key=lambda one: (one["verdict"] == FITS, one["verdict"], one["name"]))
    rows = columns((one["verdict"], one["name"], one["devices"]) for one in ordered[:_NODES_SHOWN])
    more = [f"and {len(nodes) - _NODES_SHOWN} more: -o json lists all"] if len(nodes) > _NODES_SHOWN else []
    return f"Nodes ({summed})", rows + more


def _pod(pod: Manifest) -> tuple[str, ...]:
    figures = [f"{pod['restarts']} restarts"] if "restarts" in pod else []
    figures += [f"exit code {pod['exitCode']}"] if "exitCode" in pod else []
    return pod["name"], pod["state"], ", ".join(figures), pod.get("lastWords", "")


def _facts(facts: Manifest) -> list[str]:
    return columns((name, str(value)) for name, value in facts.items())


def _verification(told: Manifest) -> list[str]:
    tests = columns(
        (one["result"], one["name"], one.get("score", ""), one.get("message", ""))
        for one in told.get("tests") or ()
    )
    features = [
        f"{words}: {', '.join(told[name])}"
        for name, words in (("verifiedFeatures", "shown"), ("unprovenFeatures", "claimed and not shown"))
        if told.get(name)
    ]
    return tests + features


def _lacking(told: Manifest) -> list[str]:
    return section("Left out for want of these rights", told["lacking"])
