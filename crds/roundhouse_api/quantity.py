"""Kubernetes quantities (`15G`, `512Mi`, `0.5`): kept as written, read as bytes or MiB.

Cards are sold in decimal gigabytes and labelled by the driver in MiB, so both spellings occur and
must compare exactly: `15G` is 14306 MiB and `15Gi` is 15360 MiB.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil
from typing import Final, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

PATTERN: Final = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3})?$"
MAX_LENGTH: Final = 32
MIB: Final = 1 << 20

_SUFFIXES: Final[dict[str, Fraction]] = {
    "": Fraction(1),
    **{f"{unit}i": Fraction(1024**power) for power, unit in enumerate("KMGTPE", start=1)},
    **{unit: Fraction(1000**power) for power, unit in enumerate("kMGTPE", start=1)},
    **{unit: Fraction(1, 1000**power) for power, unit in enumerate("mun", start=1)},
}
_PARTS: Final = re.compile(PATTERN)
_SCHEMA: Final[JsonSchemaValue] = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "x-kubernetes-int-or-string": True,
    "pattern": PATTERN,
    "maxLength": MAX_LENGTH,
    "minimum": 0,
}


class Quantity(str):
    """An amount of zero or more, as text.

    Two spellings of one amount are different texts: compare `exact`, `bytes` or `mib`.
    """

    __slots__ = ()

    @property
    def exact(self) -> Fraction:
        """The amount in its base unit: bytes, cores or a count."""
        match = _PARTS.match(self)
        if match is None:
            raise ValueError(_refusal(self))
        number, _, suffix = match.group(1), match.group(2), match.group(3) or ""
        scale = _SUFFIXES.get(suffix)
        if scale is None:
            scale = Fraction(10) ** int(suffix[1:])
        return Fraction(number.removesuffix(".")) * scale

    @property
    def bytes(self) -> int:
        """Whole bytes, rounded up as Kubernetes does."""
        return ceil(self.exact)

    @property
    def mib(self) -> int:
        """Whole MiB, rounded up: the unit of the labels of GPU feature discovery."""
        return ceil(self.exact / MIB)

    @classmethod
    def of_mib(cls, mib: int) -> Self:
        return cls(f"{mib}Mi")

    @classmethod
    def parse(cls, value: object) -> Self:
        """From YAML or JSON, where a plain number is a whole number of the base unit."""
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(_refusal(value))  # noqa: TRY004 - pydantic reports ValueErrors alone
        text = str(value)
        if len(text) > MAX_LENGTH or _PARTS.match(text) is None:
            raise ValueError(_refusal(value))
        return cls(text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return dict(_SCHEMA)


def _refusal(value: object) -> str:
    return f"{value!r} is not a quantity: write a number of zero or more with a unit, as 15G, 512Mi or 500m"
