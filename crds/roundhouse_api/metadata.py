"""What every resource carries besides spec and status: metadata, references and conditions."""

from __future__ import annotations

import re
from typing import Annotated, Final

from annotated_types import Len, MaxLen
from pydantic import Field

from roundhouse_api.enums import ConditionStatus
from roundhouse_api.model import Model, Rule
from roundhouse_api.names import API_VERSION, MAX_CHILD_OWNER_NAME
from roundhouse_api.scalars import Generation, Keyed, Name, Timestamp


class OwnerReference(Model):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class ObjectMeta(Model):
    """The part of Kubernetes' ObjectMeta that Roundhouse reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    """RFC 3339 in UTC, as the API server writes it: texts sort by age."""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()


class Resource(Model):
    """Base of the four kinds."""

    api_version: str = API_VERSION
    kind: str
    metadata: ObjectMeta


_DNS_1035: Final = "^[a-z]([-a-z0-9]*[a-z0-9])?$"


def child_owner_name_rule(advice: str = "") -> Rule[Resource]:
    """For kinds whose name begins the names of their children, Services among them."""
    pattern, longest = re.compile(_DNS_1035), MAX_CHILD_OWNER_NAME
    return Rule(
        f"self.metadata.name.matches('{_DNS_1035}') && size(self.metadata.name) <= {longest}",
        f"metadata.name must be a DNS-1035 label of at most {longest} characters{advice}",
        lambda resource: (
            len(resource.metadata.name) <= longest and pattern.fullmatch(resource.metadata.name) is not None
        ),
    )


class NameRef(Model):
    """An object of the same namespace."""

    name: Name
    """Name of the object, in the same namespace."""


class KeyRef(Model):
    """One key of a Secret or ConfigMap of the same namespace."""

    name: Name
    """Name of the Secret or ConfigMap, in the same namespace. A Secret must carry the label
    roundhouse.dev/credential (`weights` or `upstream`)."""
    key: Annotated[str, Len(1, 253)]
    """The key to read."""


class Condition(Model):
    """One aspect of the resource's state, with its cause."""

    type: Annotated[str, Len(1, 316)]
    """Which aspect, for example Ready."""
    status: ConditionStatus
    """True, False, or Unknown where it cannot be told yet."""
    observed_generation: Generation | None = None
    """The `metadata.generation` that was looked at."""
    last_transition_time: Timestamp
    """When `status` last changed."""
    reason: Annotated[str, Len(1, 1024)]
    """The cause in one word, for machines; docs/reference/conditions.md lists them all."""
    message: Annotated[str, MaxLen(2048)]
    """The cause in a sentence, for people, with what to do about it."""


class Status(Model):
    """Base of the four statuses."""

    observed_generation: Generation | None = None
    """The `metadata.generation` that this status is about."""
    conditions: Annotated[tuple[Condition, ...], Keyed(16, "type")] = ()
    """The state, aspect by aspect. Ready sums them up."""
