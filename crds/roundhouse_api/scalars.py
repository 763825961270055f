"""The small types that fields are made of: bounded numbers, patterned strings, and kinds of lists.

Each carries its limits into the CRD and holds them in Python alike. Every string, list and map is
bounded: the API server refuses CEL rules over unbounded data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Le, Len, MaxLen
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Strict, StringConstraints
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from typing_extensions import override

from roundhouse_api.quantity import Quantity

INT32_MAX: Final = 2**31 - 1
SAFE_INTEGER_MAX: Final = 2**53 - 1
"""Largest whole number that every JSON reader, the API server among them, keeps exactly."""
COUNT_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Between(GroupedMetadata):
    """A whole number from `low` to `high`, both included; `"4"` and `true` are not numbers."""

    low: int
    high: int

    @override
    def __iter__(self) -> Iterator[BaseMetadata | Strict]:
        yield Strict()
        yield Ge(self.low)
        yield Le(self.high)


@dataclass(frozen=True, slots=True)
class Atomic:
    """A list that is replaced as a whole."""

    max_items: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(core), "maxItems": self.max_items, **self.markers()}

    def markers(self) -> JsonSchemaValue:
        return {"x-kubernetes-list-type": "atomic"}

    def check(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(items) > self.max_items:
            raise ValueError(f"must have at most {self.max_items} items, has {len(items)}")
        return items


@dataclass(frozen=True, slots=True)
class SetOf(Atomic):
    """A list of distinct scalars; writers own their items one by one."""

    @override
    def markers(self) -> JsonSchemaValue:
        return {"x-kubernetes-list-type": "set"}

    @override
    def check(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        items = Atomic.check(self, items)
        _refuse_duplicates([str(item) for item in items])
        return items


@dataclass(frozen=True, slots=True)
class Keyed(Atomic):
    """A list of objects of which `key` tells one from the other."""

    key: str

    @override
    def markers(self) -> JsonSchemaValue:
        return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}

    @override
    def check(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        items = Atomic.check(self, items)
        _refuse_duplicates([str(getattr(item, self.key)) for item in items])
        return items


def _refuse_duplicates(names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"Duplicate value: {', '.join(map(repr, repeated))} may stand here only once")


_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_ID_SEGMENT: Final = "[A-Za-z0-9][A-Za-z0-9._:@+-]*"
_REPO_SEGMENT: Final = "[A-Za-z0-9][A-Za-z0-9._-]*"

Name = Annotated[str, StringConstraints(max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})*$")]
"""The name of another Kubernetes object (DNS-1123)."""
PublicId = Annotated[str, StringConstraints(max_length=200, pattern=f"^{_ID_SEGMENT}(/{_ID_SEGMENT})*$")]
"""What a client writes into `model`: slashes and capitals allowed, no empty or dotted segment."""
Repo = Annotated[str, StringConstraints(max_length=200, pattern=f"^{_REPO_SEGMENT}(/{_REPO_SEGMENT})?$")]
LanguageCode = Annotated[
    str, StringConstraints(max_length=35, pattern=r"^(\*|[a-z]{2,3}(-[A-Za-z0-9]{2,8})*)$")
]
Decimal = Annotated[str, StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?$")]
"""A number with a fraction, quoted: the API has no floats."""
Url = Annotated[str, StringConstraints(max_length=2048, pattern=r"^https?://[^\s/?#@]+([/?][^\s#]*)?$")]
"""Without user, password or fragment."""
Path = Annotated[str, StringConstraints(max_length=512, pattern=r"^/[^\s]*$")]
HeaderName = Annotated[
    str, StringConstraints(max_length=64, pattern="^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$")
]
"""Of a request, in any case."""
Sha256 = Annotated[str, StringConstraints(max_length=64, pattern="^[a-f0-9]{64}$")]
Currency = Annotated[str, StringConstraints(max_length=3, pattern="^[A-Z]{3}$")]
ResourceName = Annotated[
    str,
    StringConstraints(
        max_length=316,
        pattern=rf"^({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    ),
]
Timestamp = Annotated[
    str,
    StringConstraints(
        max_length=64,
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$",
    ),
    Field(json_schema_extra={"format": "date-time"}),
]
"""RFC 3339; kept as text, which sorts by time as the API server writes it."""
Word = Annotated[str, Len(1, 63)]
"""A short identifier: a class, a feature, a reason."""

Generation = Annotated[int, Between(0, SAFE_INTEGER_MAX)]
Count = Annotated[int, Between(0, COUNT_MAX)]
Replicas = Annotated[int, Between(0, 1000)]
Port = Annotated[int, Between(1, 65535)]
InFlight = Annotated[int, Between(1, 10_000)]

Quantities = Annotated[dict[str, Quantity], MaxLen(8)]
Labels = Annotated[dict[str, Annotated[str, MaxLen(63)]], MaxLen(16)]
Opaque = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
"""An object that is checked elsewhere, or by nobody: kept as it is."""
Features = Annotated[tuple[Word, ...], SetOf(32)]
