"""What the API says of the lists and maps that we write: which of them have one owner as a whole.

Server-side apply merges by it, and an object alone does not tell.
"""

from __future__ import annotations

from typing import Any, Final

LIST_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "hostAliases": ("ip",),
    "ownerReferences": ("uid",),
    "resourceClaims": ("name",),
    "claims": ("name",),
}
"""Lists whose items the API server tells apart by keys; all others are owned and compared as a whole."""

ATOMIC_MAPS: Final = frozenset(
    {
        "configMapKeyRef",
        "dataSource",
        "fieldRef",
        "fileKeyRef",
        "labelSelector",
        "namespaceSelector",
        "nodePublishSecretRef",
        "nodeSelector",
        "preference",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "resourceFieldRef",
        "secretKeyRef",
        "secretRef",
        "selector",
    }
)
"""Maps in what we write that have one owner as a whole: `x-kubernetes-map-type: atomic` in the API."""

_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "fieldRef": {"apiVersion": "v1"},
    "resourceFieldRef": {"divisor": "0"},
    "serviceAccountToken": {"expirationSeconds": 3600},
}
"""What the API server itself adds inside of values that have one owner."""


def list_keys(name: str, items: list[Any]) -> tuple[str, ...]:
    """The keys that tell apart the items of the list `name`; empty for a list that is one value."""
    if name == "ports" and items:
        return ("containerPort", "protocol") if "containerPort" in items[0] else ("port", "protocol")
    return LIST_KEYS.get(name, ())


def is_whole(name: str, value: Any) -> bool:  # noqa: ANN401
    """Whether whoever changes a part of the value `name` owns all of it."""
    if isinstance(value, dict):
        return name in ATOMIC_MAPS
    return isinstance(value, list) and not list_keys(name, value)


def same_whole(name: str, wanted: Any, live: Any) -> bool:  # noqa: ANN401
    """Whether the value `name` is as it is wanted, but for what the API server adds to it."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        added = live.keys() - wanted.keys()
        # The API server leaves out what is empty.
        return all(
            same_whole(key, one, live[key]) if key in live else not one for key, one in wanted.items()
        ) and all(_DEFAULTS.get(name, {}).get(key) == live[key] for key in added)
    if isinstance(wanted, list) and isinstance(live, list):
        return len(wanted) == len(live) and all(
            same_whole(name, mine, theirs) for mine, theirs in zip(wanted, live, strict=True)
        )
    return bool(wanted == live)
