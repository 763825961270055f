"""HorizontalPodAutoscalers that scale variants: those of people, and those that KEDA makes.

The API server does not tell who wrote a custom resource's replicas through /scale, as long as nobody has
written them in the manifest. So two scalers on one variant are seen by what they are set upon.
"""

from __future__ import annotations

from collections.abc import Container

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import VARIANT, Key
from roundhouse_operator.groups import Groups

Place = tuple[str, str]


class Autoscalers:
    """By the variant that each is set upon. What changes it answers with the variants that it concerns."""

    def __init__(self) -> None:
        self._targets: dict[Place, Key] = {}
        self._of: Groups[Key, str] = Groups()

    def of(self, variant: Key) -> str:
        """The name of one, by the alphabet the first; empty where there is none."""
        return min(self._of[variant], default="")

    def take(self, manifest: Manifest) -> set[Key]:
        place = _place(manifest)
        return self.drop(place) ^ self._add(place, _target(manifest))

    def drop(self, place: Place) -> set[Key]:
        before = self._targets.pop(place, None)
        if before is None:
            return set()
        self._of.discard(before, place[1])
        return {before}

    def keep(self, namespace: str | None, listed: Container[Place]) -> set[Key]:
        """Whatever else there is in the namespace, or in all of them, is gone."""
        gone = [
            place
            for place in self._targets
            if place not in listed and (namespace is None or place[0] == namespace)
        ]
        return {key for place in gone for key in self.drop(place)}

    def _add(self, place: Place, target: Key | None) -> set[Key]:
        if target is None:
            return set()
        self._targets[place] = target
        self._of.add(target, place[1])
        return {target}


def _place(manifest: Manifest) -> Place:
    metadata = manifest["metadata"]
    return metadata["namespace"], metadata["name"]


def _target(manifest: Manifest) -> Key | None:
    """None for one that scales something else; a version that is not ours is the same resource."""
    reference = manifest["spec"]["scaleTargetRef"]
    group = str(reference.get("apiVersion", "")).partition("/")[0]
    if (group, reference["kind"]) != (names.GROUP, VARIANT.name):
        return None
    return Key(VARIANT, manifest["metadata"]["namespace"], reference["name"])
