"""What runs as the loader: its image, and what this installation tells it beside the source.

Authorities of one's own are told by reference. A bundle has up to 64 KiB, which would stand in each variant's
Deployment, and a change of it would be one of all pod templates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from roundhouse_api.model import Manifest

LOADER_CONTAINER: Final = "weights-loader"
AUTHORITIES: Final = "ROUNDHOUSE_CA_CERTIFICATES"
AUTHORITIES_KEY: Final = "ca.crt"
OWN_VARIABLES: Final = frozenset(
    {
        "ROUNDHOUSE_SOURCE",
        "ROUNDHOUSE_CACHE_DIR",
        "ROUNDHOUSE_CACHE_KEY",
        "ROUNDHOUSE_DOWNLOAD_POLICY",
        "ROUNDHOUSE_LOADER_PORT",
        "ROUNDHOUSE_REVISION",
    }
)
"""What `desired.weights` says; all else is this installation's."""


@dataclass(frozen=True, slots=True)
class LoaderImage:
    """`env` is the same for every loader: proxies, a mirror's address."""

    image: str
    pull_policy: str = ""
    env: tuple[tuple[str, str], ...] = ()
    authorities: str = ""
    """The ConfigMap of the pod's namespace that holds them."""


UNTOLD: Final = LoaderImage("localhost/roundhouse/loader")
"""Where no settings say otherwise."""


def loader_of(containers: Iterable[Manifest]) -> LoaderImage | None:
    """That of pods that are there: an update of the operator alone starts none of them anew."""
    for one in containers:
        if one.get("name") == LOADER_CONTAINER:
            env = [(each["name"], each.get("value", "")) for each in one.get("env") or ()]
            authorities = _authorities(one.get("env") or ())
            own = OWN_VARIABLES | ({AUTHORITIES} if authorities else frozenset())
            kept = tuple((name, value) for name, value in env if name not in own)
            return LoaderImage(one["image"], one.get("imagePullPolicy", ""), kept, authorities)
    return None


def told_of_authorities(config_map: str) -> Manifest:
    """A variable that is read when a container starts; without it the public ones are believed."""
    known = {"name": config_map, "key": AUTHORITIES_KEY, "optional": True}
    return {"name": AUTHORITIES, "valueFrom": {"configMapKeyRef": known}}


def _authorities(env: Iterable[Manifest]) -> str:
    told = next((one.get("valueFrom") or {} for one in env if one["name"] == AUTHORITIES), {})
    return str((told.get("configMapKeyRef") or {}).get("name", ""))
