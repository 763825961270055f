"""What stands on a claim of somebody else's: which directories on it a Job of ours has made, and from where.

A sweep removes what is marked there and nothing else. A record of weights could not be trusted with that: who
may write ConfigMaps may not on that account have anything removed from a claim, whereas who may change the
claim may delete it anyway. And a mark is data, never a pod: the pod of a sweep is made from it as every other
pod of a loader is, so nobody has anything run by what they write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Final

from annotated_types import MaxLen
from pydantic import Field, ValidationError

from roundhouse_api.model import Manifest, Model
from roundhouse_api.names import ANNOTATION_FETCHED
from roundhouse_api.v1alpha1 import NameRef, Toleration
from roundhouse_operator.core.kinds import VOLUME_CLAIM
from roundhouse_operator.core.plan import Mark

_Text = Annotated[str, MaxLen(317)]
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


class _Expression(Model):
    key: _Text
    operator: _Text
    values: Annotated[tuple[_Text, ...], MaxLen(512)] = ()


class _Term(Model):
    match_expressions: Annotated[tuple[_Expression, ...], MaxLen(64)] = ()
    match_fields: Annotated[tuple[_Expression, ...], MaxLen(64)] = ()


class Nodes(Model):
    """The nodes on which a loader's pod may run, and the Secrets with which its image is pulled."""

    node_selector: Annotated[dict[_Text, _Text], MaxLen(32)] = Field(default_factory=dict)
    tolerations: Annotated[tuple[Toleration, ...], MaxLen(32)] = ()
    image_pull_secrets: Annotated[tuple[NameRef, ...], MaxLen(32)] = ()
    terms: Annotated[tuple[_Term, ...], MaxLen(256)] = ()

    @property
    def pod(self) -> Manifest:
        """As parts of a pod's spec."""
        said = self.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")
        if terms := said.pop("terms", None):
            said["affinity"] = {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": terms}}}
        return said


ANYWHERE: Final = Nodes()


def mark_fetched(namespace: str, claim: str, key: str, nodes: Nodes) -> Mark:
    said = json.dumps(nodes.pod, separators=(",", ":"), sort_keys=True)
    return Mark(VOLUME_CLAIM, namespace, claim, {f"{ANNOTATION_FETCHED}{key}": said})


def unmark(namespace: str, claim: str, key: str) -> Mark:
    return Mark(VOLUME_CLAIM, namespace, claim, {f"{ANNOTATION_FETCHED}{key}": None})


def read_mark(annotations: Mapping[str, str], key: str) -> Nodes | None:
    """None: no Job of ours has made a directory of that key."""
    said = annotations.get(f"{ANNOTATION_FETCHED}{key}")
    if said is None:
        return None
    try:
        return nodes_of(json.loads(said))
    except (ValueError, RecursionError):
        return ANYWHERE


def nodes_of(pod: object) -> Nodes:
    """From a pod's spec, whoever wrote it; nothing of it where a part is not what it should be.

    Of an affinity only what nodes must be like: a pod that keeps others away would harm them.
    """
    if not isinstance(pod, dict):
        return ANYWHERE
    said = {name: pod[name] for name in ("nodeSelector", "tolerations", "imagePullSecrets") if name in pod}
    try:
        return Nodes.model_validate({**said, "terms": _terms(pod.get("affinity"))})
    except ValidationError:
        return ANYWHERE


def _terms(affinity: object) -> object:
    match affinity:
        case {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        }:
            return terms
        case _:
            return ()
