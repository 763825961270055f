"""What runs as the loader: its image, and the environment that this installation gives it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from roundhouse_api.model import Manifest

LOADER_CONTAINER: Final = "weights-loader"
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
    """`env` is the same for every loader: proxies, a mirror's address, a CA bundle."""

    image: str
    pull_policy: str = ""
    env: tuple[tuple[str, str], ...] = ()


UNTOLD: Final = LoaderImage("localhost/roundhouse/loader")
"""Where no settings say otherwise."""


def loader_of(containers: Iterable[Manifest]) -> LoaderImage | None:
    """That of pods that are there: an update of the operator alone starts none of them anew."""
    for one in containers:
        if one.get("name") == LOADER_CONTAINER:
            env = [(each["name"], each.get("value", "")) for each in one.get("env") or ()]
            kept = tuple((name, value) for name, value in env if name not in OWN_VARIABLES)
            return LoaderImage(one["image"], one.get("imagePullPolicy", ""), kept)
    return None
