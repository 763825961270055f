"""The image of an engine and the pod around it."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Len, MaxLen

from roundhouse_api.enums import ImagePullPolicy
from roundhouse_api.metadata import KeyRef, NameRef
from roundhouse_api.model import Model, rule
from roundhouse_api.scalars import Atomic, Keyed, Name, Opaque

EnvName = Annotated[str, Len(1, 256)]
Text = Annotated[str, MaxLen(4096)]


class FieldRef(Model):
    """A field of the pod."""

    field_path: Annotated[str, Len(1, 253)]
    """Its path, for example metadata.uid."""


class EnvValueFrom(Model):
    """Where a variable's value comes from: exactly one of the members."""

    secret_key_ref: KeyRef | None = None
    """A key of a Secret."""
    config_map_key_ref: KeyRef | None = None
    """A key of a ConfigMap."""
    field_ref: FieldRef | None = None
    """A field of the pod."""

    @rule(
        "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].exists_one(set, set)",
        "exactly one of `secretKeyRef`, `configMapKeyRef` and `fieldRef` must be set",
    )
    def exactly_one_member(self) -> bool:
        return (self.secret_key_ref, self.config_map_key_ref, self.field_ref).count(None) == 2


class Env(Model):
    """An environment variable of the engine's container."""

    name: EnvName
    """The variable's name."""
    value: Text | None = None
    """The value, as it is."""
    value_from: EnvValueFrom | None = None
    """Where the value comes from instead."""

    @rule("!has(self.value) || !has(self.valueFrom)", "only one of `value` and `valueFrom` may be set")
    def one_value(self) -> bool:
        return self.value is None or self.value_from is None


class EnvFrom(Model):
    """All keys of a Secret or of a ConfigMap as environment variables."""

    prefix: Annotated[str, MaxLen(128)] | None = None
    """Put before each key."""
    secret_ref: NameRef | None = None
    """The Secret."""
    config_map_ref: NameRef | None = None
    """The ConfigMap."""

    @rule(
        "has(self.secretRef) != has(self.configMapRef)",
        "exactly one of `secretRef` and `configMapRef` must be set",
    )
    def exactly_one_member(self) -> bool:
        return (self.secret_ref is None) != (self.config_map_ref is None)


class Workload(Model):
    """The image that the operator runs, and its pod."""

    image: Annotated[str, Len(1, 512)]
    """The image, for example localhost/roundhouse/pocketsphinx:0.1.0."""
    image_pull_policy: ImagePullPolicy | None = None
    """When to pull it: Always, IfNotPresent or Never. Absent: Kubernetes' own rule."""
    image_pull_secrets: Annotated[tuple[NameRef, ...], Keyed(16, "name")] = ()
    """Secrets for a private registry."""
    command: Annotated[tuple[Text, ...], Atomic(64)] = ()
    """Entry point of the container. Absent: the image's own."""
    args: Annotated[tuple[Text, ...], Atomic(128)] = ()
    """Arguments; those of a variant come after them."""
    env: Annotated[tuple[Env, ...], Keyed(128, "name")] = ()
    """Environment variables; those of a variant win."""
    env_from: Annotated[tuple[EnvFrom, ...], Atomic(16)] = ()
    """Secrets and ConfigMaps of which all keys become environment variables."""
    service_account_name: Name | None = None
    """ServiceAccount of the pod. Absent: default, without a token."""
    priority_class_name: Name | None = None
    """PriorityClass of the pod."""
    runtime_class_name: Name | None = None
    """RuntimeClass of the pod, for example nvidia."""
    pod_template: Opaque | None = None
    """A core/v1 PodTemplateSpec laid over the generated one as a strategic merge patch; the container
    is named engine. It may not set what a field of this resource sets."""
