"""The kind Adapter: a LoRA that changes a base model, and where it is loaded."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Len, MaxLen
from pydantic import Field

from roundhouse_api.metadata import Resource, Status, child_owner_name_rule
from roundhouse_api.model import Model, Rule
from roundhouse_api.scalars import Atomic, Between, Count, Decimal, Name, PublicId, Replicas, Word
from roundhouse_api.source import Source


class AdapterSpec(Model):
    """The adapter as it should be."""

    base_model: PublicId
    """The model that it was trained on: any name that a variant answers to."""
    source: Source
    """Where its weights come from."""
    served_name: PublicId | None = None
    """The public id: what clients write into `model`. Absent: `metadata.name`."""
    display_name: Annotated[str, MaxLen(100)] | None = None
    """Name for people."""
    description: Annotated[str, MaxLen(1000)] | None = None
    """What the adapter is good for."""
    version: Annotated[str, Len(1, 64)] | None = None
    """Version that is shown beside the name."""
    rank: Annotated[int, Between(1, 1024)] | None = None
    """Rank of its matrices; an engine reserves memory by the largest."""
    strength: Decimal | None = None
    """How strongly it is applied, as a quoted decimal. Absent: as it was trained."""
    suspend: Annotated[bool, Field(strict=True)] = False
    """True: it is unloaded everywhere."""


class AdapterVariant(Model):
    """A variant that the adapter was tried with."""

    name: Name
    """`metadata.name` of the ModelVariant."""
    compatible: Annotated[bool, Field(strict=True)]
    """Whether the adapter fits it."""
    loaded_replicas: Replicas = 0
    """Pods of the variant that have it loaded."""
    reason: Word | None = None
    """Why it does not fit, or is not loaded."""


class AdapterStatus(Status):
    """The adapter as it is."""

    served_name: PublicId | None = None
    """The public id, resolved."""
    published_names: Annotated[tuple[PublicId, ...], Atomic(2)] = ()
    """The names that this adapter won; the gateway answers to these alone."""
    required_model: PublicId | None = None
    """The model that it would need, where no variant fits."""
    loaded_variants: Count = 0
    """Variants that have it loaded."""
    variants: Annotated[tuple[AdapterVariant, ...], Atomic(32)] = ()
    """Variants that it was tried with."""
    omitted_variants: Count = 0
    """Further variants that are not listed."""


class Adapter(Resource):
    """A LoRA that changes a base model; clients ask for it by its own name."""

    kind: Literal["Adapter"] = "Adapter"
    spec: AdapterSpec
    """The adapter as it should be."""
    status: AdapterStatus = Field(default_factory=AdapterStatus)
    """The adapter as it is; written by the operator."""

    name_leaves_room: ClassVar[Rule[Resource]] = child_owner_name_rule()
