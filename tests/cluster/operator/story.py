"""A story in which things are made, edited and deleted, and how to compare what is there at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from roundhouse_operator.core.kinds import CHILD_KINDS, DEPLOYMENT, ENGINE, POD, SERVICE, VARIANT
from tests.cluster.operator.api import Api
from tests.support.waiting import deadline_seconds
from tests.unit.operator.samples import engine, variant

STEP_SECONDS: Final = 90.0
LOOK_SECONDS: Final = 0.4
"""Between looks at an end that is to stand still; what is gathered for longer counts as waiting."""
_OWN: Final = frozenset(
    {
        *("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "lastTransitionTime"),
        *("clusterIP", "clusterIPs", "deployment.kubernetes.io/revision", "namespace"),
        *("lastUpdateTime", "observedGeneration"),
    }
)
"""What differs from run to run."""
_OF_US: Final = "observedGeneration"
"""Of our own kinds it does not: they are edited as often in each run."""


@dataclass
class Story:
    """One run. `between` is called while it waits, and may mend what a test has broken.

    `idle` says whether an operator leads that has nothing to do.
    """

    api: Api
    idle: Callable[[], bool]
    between: Callable[[], object] = lambda: None
    doing: Callable[[], str] = lambda: ""
    """What the operator says of itself, for who reads of a failure."""

    def tell(self) -> None:
        api = self.api
        api.apply(ENGINE, engine())
        api.apply(VARIANT, variant("first", aliases=["one"]))
        api.apply(VARIANT, variant("second", replicas=2))
        self.until(lambda: self.is_served("first", "second"), "both are ready")
        api.patch(ENGINE, "kws", {"spec": {"workload": {"image": "example.org/kws:2"}}})
        api.patch(VARIANT, "first", {"spec": {"replicas": 2, "aliases": ["one", "uno"]}})
        self.until(lambda: self.runs("first", 2, "2") and self.runs("second", 2, "2"), "the edits are done")
        api.delete(SERVICE, "first")
        api.delete(VARIANT, "second")
        api.apply(VARIANT, variant("third", aliases=["two"]))
        self.until(lambda: self.is_served("first", "third"), "the third is ready")
        self.until(lambda: self.api.get(SERVICE, "first") is not None, "the Service is back")
        self.until(lambda: not self.api.list(POD, "roundhouse.dev/variant=second"), "the second has gone")

    def until(self, probe: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + deadline_seconds(STEP_SECONDS)
        while not probe():
            assert time.monotonic() < deadline, f"in {self.api.namespace} still not: {what}; {self.doing()}"
            self.between()
            time.sleep(0.1)

    def is_served(self, *names: str) -> bool:
        return all(self._is_served(name) for name in names)

    def runs(self, name: str, replicas: int, tag: str) -> bool:
        found = self.api.get(DEPLOYMENT, name)
        if found is None or not self._is_served(name):
            return False
        image = found["spec"]["template"]["spec"]["containers"][0]["image"]
        return (found["spec"]["replicas"], image) == (replicas, f"example.org/kws:{tag}")

    def _is_served(self, name: str) -> bool:
        found = self.api.get(VARIANT, name) or {}
        status = found.get("status", {})
        said = {one["type"]: one["status"] for one in status.get("conditions", ())}
        current = status.get("observedGeneration") == found.get("metadata", {}).get("generation")
        return bool(current) and said.get("Ready") == said.get("UpToDate") == "True"

    def end(self) -> Mapping[str, Any]:
        """Everything that there is of ours, without what differs from run to run."""
        found: dict[str, Any] = {}
        for kind in (ENGINE, VARIANT):
            for one in self.api.list(kind):
                found[f"{kind} {one['metadata']['name']}"] = _stripped(one, kept=_OF_US)
        for kind in CHILD_KINDS:
            for one in self.api.list(kind, "roundhouse.dev/managed=true"):
                one.pop("status", None)
                found[f"{kind} {one['metadata']['name']}"] = _stripped(one)
        pods = self.api.list(POD, "roundhouse.dev/managed=true")
        found["pods"] = sorted(one["metadata"]["labels"]["roundhouse.dev/variant"] for one in pods)
        return found

    def settled(self) -> Mapping[str, Any]:
        """The end, once it stands still and nobody is about to change it."""
        seen: list[Mapping[str, Any]] = []

        def still() -> bool:
            if not self.idle():
                seen.clear()
                return False
            seen.append(self.end())
            time.sleep(LOOK_SECONDS)
            return len(seen) > 2 and self.idle() and seen[-1] == seen[-2] == seen[-3]

        self.until(still, "the end stands still")
        return seen[-1]


def _stripped(value: Any, kept: str = "") -> Any:
    if isinstance(value, dict):
        return {
            name: _stripped(inner, kept) for name, inner in value.items() if name == kept or name not in _OWN
        }
    if isinstance(value, list):
        return [_stripped(inner, kept) for inner in value]
    return value
