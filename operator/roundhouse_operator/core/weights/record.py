"""What a record of weights says of a directory that a sweep may have to remove: data, and never a pod.

Whoever may write ConfigMaps could otherwise have the operator run whatever they like. So a record names a
claim, a key and nodes, and the pod is made from them as every other pod of a loader is. Here the nodes are
checked; whether claim and key are of one of our directories is for `sweep` to say.
"""

from __future__ import annotations

from typing import Annotated, Final

from annotated_types import MaxLen
from pydantic import Field, ValidationError

from roundhouse_api.model import Manifest, Model
from roundhouse_api.v1alpha1 import NameRef, Toleration

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
