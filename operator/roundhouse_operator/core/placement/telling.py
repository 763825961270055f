"""Placement in words and in status: what is needed, what there is, and by how much it misses."""

from __future__ import annotations

from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.quantity import Quantity
from roundhouse_api.v1alpha1 import (
    NodeExpression,
    NodeTerm,
    Placement,
    RejectedNodes,
)
from roundhouse_operator.core.placement.fleet import Survey
from roundhouse_operator.core.placement.memory import required
from roundhouse_operator.core.placement.need import Need

_MILLI: Final = 1000
_MIB: Final = 1 << 20
_NAMED: Final = 5
"""Products or rules that a message names."""


def as_status(
    need: Need, found: Survey, *, weights_mib: int | None = None, measured_mib: int | None = None
) -> Manifest:
    """`status.placement` of a variant."""
    gpu = need.allocation is not None
    return Placement(
        device=need.device,
        allocation=need.allocation,
        resource_name=need.resource,
        revision=need.stated.revision,
        node_selector_terms=tuple(
            NodeTerm(
                match_expressions=tuple(
                    NodeExpression(key=one.key, operator=one.operator, values=one.values) for one in term
                )
            )
            for term in need.terms
        ),
        required=required(need.memory_mib, weights_mib) if gpu else None,
        nodes_fitting=found.fitting,
        nodes_rejected=tuple(
            RejectedNodes(reason=reason.value, count=count, example=example)
            for reason, count, example in found.rejected
        ),
        measured_peak_memory=Quantity.of_mib(measured_mib) if measured_mib else None,
    ).model_dump(by_alias=True, exclude_defaults=True, mode="json")


def explain(need: Need, found: Survey) -> str:
    """For people: what is needed and what there is."""
    against = ", ".join(f"{count} {reason.value} (as {example})" for reason, count, example in found.rejected)
    short = (
        ""
        if found.fitting
        else "".join(f"; {one}" for one in (_missing(need, found), _why(need, found)) if one)
    )
    return f"needs {wanted(need)}{short}; {found.fitting} nodes fit{f'; not: {against}' if against else ''}"


def wanted(need: Need) -> str:
    if need.allocation is None:
        return "a node"
    text = f"{need.count} × {need.resource or _device_class(need)}"
    if need.memory_mib:
        text += f" with {need.memory_mib} MiB each{_origin(need)}"
    if need.stated.products:
        text += f" of {', '.join(need.stated.products)}"
    return text


def asked_for(need: Need, short: frozenset[str]) -> str:
    """What the pod requests of CPU, memory and storage that is `short`; empty where it requests none."""
    return ", ".join(_amount(name, amount) for name, amount in need.stated.requests if name in short)


def _missing(need: Need, found: Survey) -> str:
    """Cards report less than their names say, so how much is lacking is told to the MiB."""
    if not need.memory_mib or not found.too_small_mib:
        return ""
    lacking = need.memory_mib - found.too_small_mib
    return f"the largest that is too small has {found.too_small_mib} MiB, {lacking} MiB less than needed"


def _why(need: Need, found: Survey) -> str:
    """What the nodes that come nearest have, where no waiting helps."""
    if found.obstacle is Reason.INSUFFICIENT_GPU and found.most:
        return f"the most on one node is {found.most}: lower `gpu.count`"
    if found.obstacle is Reason.NO_GPU and found.instead:
        kind = f"is of {' or '.join(need.stated.products)}" if need.stated.products else "has that"
        return f"no node {kind}; there are {_first(found.instead)}"
    if found.obstacle is Reason.INSUFFICIENT_RESOURCES:
        asked = dict(need.stated.requests)
        return "; ".join(_too_much(name, asked[name], most) for name, most in found.room)
    if found.obstacle is Reason.NO_MATCHING_NODE:
        return _first(tuple(f"{count} {rule}" for rule, count in found.unmet))
    return ""


def _too_much(name: str, asked: int, most: int) -> str:
    there = f"{most / _MILLI:g}" if name == "cpu" else f"{most // _MIB} MiB"
    return f"{_amount(name, asked)} are asked for, the most on one node is {there}"


def _amount(name: str, asked: int) -> str:
    return f"{asked / _MILLI:g} CPUs" if name == "cpu" else f"{-(-asked // _MIB)} MiB of {name}"


def _first(words: tuple[str, ...]) -> str:
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return f"{', '.join(words[:_NAMED])}{more}"


def _origin(need: Need) -> str:
    """As the author wrote it, or where else the figure is from."""
    stated = need.stated.memory
    if stated is None or stated.mib != need.memory_mib:
        return " (measured)"
    return f" ({stated})" if stated != f"{need.memory_mib}Mi" else ""


def _device_class(need: Need) -> str:
    claim = need.stated.allocation.dra if need.stated.allocation else None
    return claim.device_class_name if claim else "GPU"
