"""A small scheduler: whether an empty node takes a pod, read from the two manifests and nothing else.

Written apart from the operator's own rules, from what kube-scheduler does, so that the two can be compared.
"""

from __future__ import annotations

import re
from fractions import Fraction

from roundhouse_api.model import Manifest

_UNITS: dict[str, int | Fraction] = {
    "": 1,
    "m": Fraction(1, 1000),
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
}


def takes(node: Manifest, pod: Manifest) -> bool:
    """`pod` is a pod's spec. Claims on devices are left out."""
    labels = node["metadata"].get("labels", {})
    taints = [*node["spec"].get("taints", ())]
    if node["spec"].get("unschedulable"):
        taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    return (
        all(labels.get(key) == value for key, value in pod.get("nodeSelector", {}).items())
        and all(_tolerates(pod, taint) for taint in taints)
        and _in_affinity(node, pod)
        and _has_room(node, pod)
    )


def _tolerates(pod: Manifest, taint: Manifest) -> bool:
    for one in pod.get("tolerations", ()):
        key_fits = "key" not in one or one["key"] == taint["key"]
        value_fits = one.get("operator") == "Exists" or one.get("value", "") == taint.get("value", "")
        if key_fits and value_fits and one.get("effect", taint["effect"]) == taint["effect"]:
            return True
    return bool(taint["effect"] == "PreferNoSchedule")


def _in_affinity(node: Manifest, pod: Manifest) -> bool:
    required = (
        pod.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    )
    if required is None:
        return True
    return any(_meets(node, term) for term in required["nodeSelectorTerms"])


def _meets(node: Manifest, term: Manifest) -> bool:
    labels, fields = node["metadata"].get("labels", {}), {"metadata.name": node["metadata"]["name"]}
    asked = [(labels, one) for one in term.get("matchExpressions", ())]
    asked += [(fields, one) for one in term.get("matchFields", ())]
    return bool(asked) and all(_holds(there.get(one["key"]), one) for there, one in asked)


def _holds(value: str | None, asked: Manifest) -> bool:
    values = asked.get("values", ())
    if asked["operator"] in ("Gt", "Lt"):
        if value is None or not re.fullmatch(r"[+-]?\d+", value):
            return False
        return int(value) > int(values[0]) if asked["operator"] == "Gt" else int(value) < int(values[0])
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[str(asked["operator"])]


def _has_room(node: Manifest, pod: Manifest) -> bool:
    there = node["status"]["allocatable"]
    for container in pod["containers"]:
        resources = container.get("resources", {})
        asked = {**resources.get("limits", {}), **resources.get("requests", {})}
        if any(_amount(there.get(name, "0")) < _amount(wanted) for name, wanted in asked.items()):
            return False
    return True


def _amount(text: str) -> Fraction:
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text))
    assert found, text
    return Fraction(found[1]) * _UNITS[found[2]]
