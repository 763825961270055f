"""The pods of a shared engine as they are: what each is told to hold, is to hold, and serves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_operator.core.desired.models import MODELS_FILE
from roundhouse_operator.core.desired.shared import replica_name
from roundhouse_operator.core.kinds import CONFIG_MAP, DEPLOYMENT
from roundhouse_operator.core.observed import Child, Pod, Rollout
from roundhouse_operator.core.packing import Bin
from roundhouse_operator.core.shared.world import EngineWorld, decided_for


@dataclass(frozen=True, slots=True)
class Replica:
    """One Deployment of one pod, of which there are two while it is replaced."""

    index: int
    name: str
    generation: int = 0
    """Of the list of models; 0 before the first."""
    entries: Mapping[str, Manifest] = field(default_factory=dict)
    """The list of models, by variant."""
    target: frozenset[str] = frozenset()
    """The variants that it was decided to hold."""
    mib: int | None = None
    placement: Manifest = field(default_factory=dict)
    """Where its pods run, as it was decided; empty before that."""
    replaced: bool = False
    """Whether its pod served when it was last changed."""
    restarted_at: str = ""
    """As its template says."""
    strategy: Manifest = field(default_factory=dict)
    """Of its Deployment."""
    rollout: Rollout | None = None
    pods: tuple[Pod, ...] = ()
    """Without those that end."""

    def serves(self, variant: str) -> bool:
        """Whether a pod gets the variant's requests now."""
        return any(pod.ready and pod.share and variant in pod.share.serves for pod in self.pods)

    @property
    def labelled(self) -> frozenset[str]:
        """Variants whose requests may come here, now or once the pod is ready again."""
        return frozenset(name for pod in self.pods if pod.share for name in pod.share.serves)

    @property
    def bin(self) -> Bin:
        return Bin(self.index, self.mib, self.target)


def read_replicas(world: EngineWorld) -> dict[int, Replica]:
    indices = {index for child in world.children if (index := _index(child)) is not None}
    indices |= {pod.share.replica for pod in world.pods if pod.share and not pod.ending}
    return {index: _read(world, index) for index in sorted(indices)}


def _read(world: EngineWorld, index: int) -> Replica:
    name = replica_name(world.engine.name, index)
    lists = (child for child in world.children if child.kind == CONFIG_MAP and _index(child) == index)
    list_ = next(lists, None)
    listed = _listed(list_) if list_ else {}
    annotations = (list_.live["metadata"].get("annotations") or {}) if list_ else {}
    template = _template(world.children, index)
    mib = annotations.get(names.ANNOTATION_ROOM, "")
    return Replica(
        index=index,
        name=name,
        generation=listed.get("generation", 0),
        entries={one["variant"]: one for one in listed.get("models", ())},
        target=frozenset(decided_for(list_)) if list_ else frozenset(),
        mib=int(mib) if mib.isdecimal() else None,
        placement=_placement(annotations),
        restarted_at=(template.get("metadata", {}).get("annotations") or {}).get(
            names.ANNOTATION_ENGINE_RESTARTED_AT, ""
        ),
        replaced=_annotations(world.children, index).get(names.ANNOTATION_REPLACED) == "true",
        strategy=_strategy(world.children, index),
        rollout=world.rollouts.get(name),
        pods=tuple(pod for pod in world.pods if pod.share and pod.share.replica == index and not pod.ending),
    )


def _listed(child: Child) -> Manifest:
    """A list that somebody broke is as good as none: it is written anew."""
    try:
        listed: Manifest = json.loads((child.live.get("data") or {}).get(MODELS_FILE.name, ""))
        well = isinstance(listed["generation"], int) and all(one["variant"] for one in listed["models"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return listed if well else {}


def _annotations(children: Iterable[Child], index: int) -> Manifest:
    """Of the Deployment itself."""
    deployments = (one for one in children if one.kind == DEPLOYMENT and _index(one) == index)
    return next((one.live["metadata"].get("annotations") or {} for one in deployments), {})


def _strategy(children: Iterable[Child], index: int) -> Manifest:
    deployments = (one for one in children if one.kind == DEPLOYMENT and _index(one) == index)
    return next((one.live["spec"].get("strategy") or {} for one in deployments), {})


def _template(children: Iterable[Child], index: int) -> Manifest:
    deployments = (one for one in children if one.kind == DEPLOYMENT and _index(one) == index)
    templates: Iterator[Manifest] = (one.live["spec"]["template"] for one in deployments)
    return next(templates, {})


def _placement(annotations: Manifest) -> Manifest:
    try:
        placement = json.loads(annotations.get(names.ANNOTATION_PLACEMENT, ""))
    except (ValueError, RecursionError):
        return {}
    return placement if isinstance(placement, dict) else {}


def _index(child: Child) -> int | None:
    number = (child.live["metadata"].get("labels") or {}).get(names.LABEL_REPLICA, "")
    return int(number) if number.isdecimal() else None
