"""Whether a node's labels and taints let a pod in, by the scheduler's own rules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Toleration
from roundhouse_operator.core.placement.need import Expression, Stated, Term
from roundhouse_operator.core.placement.nodes import Node

CORDON: Final = ("node.kubernetes.io/unschedulable", "", "NoSchedule")
"""A cordon keeps away what does not tolerate this taint, also before it stands on the node."""


def keeps_out(node: Node, stated: Stated) -> tuple[str, ...]:
    """What of node selector, taints and affinity is against the node, in words; nothing: it is let in."""
    labels = (f"lack {key}={value}" for key, value in stated.node_selector if node.labels.get(key) != value)
    taints = (_named(taint) for taint in _taints(node) if not _tolerated(taint, stated.tolerations))
    met = not stated.affinity or _meets_affinity(stated.affinity, node)
    return (*labels, *taints, *(() if met else ("do not meet the affinity",)))


def _named(taint: tuple[str, str, str]) -> str:
    key, value, effect = taint
    if taint == CORDON:
        return "are cordoned"
    return f"have the taint {key}{f'={value}' if value else ''}:{effect}"


def meets(expression: Expression, labels: Mapping[str, str]) -> bool:
    value, wanted = labels.get(expression.key), expression.values
    match expression.operator:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(expression.operator, value, wanted)
        case _:
            return False  # the API server refuses it


def meets_one(terms: tuple[Term, ...], labels: Mapping[str, str]) -> bool:
    return not terms or any(all(meets(one, labels) for one in term) for term in terms)


def _compares(operator: str, value: str | None, wanted: tuple[str, ...]) -> bool:
    try:
        there, bound = int(value or ""), int(wanted[0])
    except (ValueError, IndexError):
        return False
    return there > bound if operator == "Gt" else there < bound


def _meets_affinity(affinity: str, node: Node) -> bool:
    """A term without members meets nothing, and neither does a requirement without terms."""
    terms = _required_terms(affinity)
    if terms is None:
        return True
    fields = {"metadata.name": node.name}
    return any(
        term
        and all(meets(_expression(one), node.labels) for one in term.get("matchExpressions") or ())
        and all(meets(_expression(one), fields) for one in term.get("matchFields") or ())
        for term in terms
    )


@lru_cache(maxsize=256)
def _required_terms(affinity: str) -> tuple[Manifest, ...] | None:
    """None where the author requires nothing. What is no affinity at all is left to the API server."""
    required: Any = json.loads(affinity)
    for member in ("nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"):
        required = required.get(member) if isinstance(required, dict) else None
    return tuple(one for one in required if isinstance(one, dict)) if isinstance(required, list) else None


def _expression(member: Any) -> Expression:  # noqa: ANN401
    one = member if isinstance(member, dict) else {}
    values = one.get("values") or ()
    return Expression(str(one.get("key")), str(one.get("operator")), tuple(map(str, values)))


def _taints(node: Node) -> tuple[tuple[str, str, str], ...]:
    return (*node.taints, CORDON) if node.cordoned else node.taints


def _tolerated(taint: tuple[str, str, str], tolerations: Iterable[Toleration]) -> bool:
    key, value, effect = taint
    if effect == "PreferNoSchedule":
        return True
    return any(
        (each.effect is None or each.effect.value == effect)
        and (not each.key or each.key == key)
        and (each.operator == "Exists" or (each.value or "") == value)
        for each in tolerations
    )
