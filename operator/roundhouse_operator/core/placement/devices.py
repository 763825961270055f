"""Devices of dynamic resource allocation: what a pod claims, and which of a node's devices would do.

The scheduler alone allocates, and it alone evaluates CEL. For the survey the forms that drivers and
their users write are understood (driver, attribute and capacity compared with a constant, joined by `&&`);
any other is taken to hold, so that a node may be counted as fitting which the scheduler then refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from roundhouse_api.quantity import MIB, Quantity

MEMORY: Final = "memory"
_STRING: Final = r"""(?:"([^"]*)"|'([^']*)')"""
_DRIVER: Final = re.compile(rf"^device\.driver\s*(==|!=)\s*{_STRING}$")
_ATTRIBUTE: Final = re.compile(
    rf"^device\.attributes\[{_STRING}\]\.(\w+)\s*(==|!=)\s*(?:{_STRING}|(-?\d+)|(true|false))$"
)
_CAPACITY: Final = re.compile(
    rf"^device\.capacity\[{_STRING}\]\.(\w+)\.compareTo\(quantity\({_STRING}\)\)\s*(>=|<=|==|!=|>|<)\s*0$"
)


@dataclass(frozen=True, slots=True)
class ClaimableDevice:
    """A device of a ResourceSlice; attributes and capacities by `domain/name`."""

    driver: str
    attributes: Mapping[str, str | int | bool]
    capacity: Mapping[str, int]

    @property
    def memory_mib(self) -> int | None:
        """As its own driver tells it."""
        memory = self.capacity.get(f"{self.driver}/{MEMORY}")
        return None if memory is None else memory // MIB


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """CEL that each of its devices meets."""

    selectors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceSlice:
    """A part of a driver's pool. No node: its devices can be reached from every node."""

    pool: tuple[str, str]
    generation: int
    node: str
    devices: tuple[ClaimableDevice, ...]


def memory_selector(memory_mib: int) -> str:
    """CEL for devices with that much memory, under whatever domain their driver tells it.

    A device without the capacity is passed over: to ask for a missing key would be an error, which ends
    the whole search.
    """
    return (
        f'"{MEMORY}" in device.capacity[device.driver] && '
        f'device.capacity[device.driver].{MEMORY}.compareTo(quantity("{memory_mib}Mi")) >= 0'
    )


def admits(selectors: Iterable[str], device: ClaimableDevice) -> bool:
    """Whether a device meets all of the CEL expressions, as far as they are understood."""
    return all(_holds(part.strip(), device) for each in selectors for part in _conjuncts(each))


def _conjuncts(expression: str) -> list[str]:
    """One part where the expression holds anything but atoms joined by `&&`."""
    nested = "||" in expression or "(" in expression.replace("compareTo(quantity(", "")
    return [expression] if nested else expression.split("&&")


def _holds(atom: str, device: ClaimableDevice) -> bool:
    if found := _DRIVER.match(atom):
        return _compare(device.driver, found[1], found[2] or found[3] or "")
    if found := _ATTRIBUTE.match(atom):
        domain, name, operator = found[1] or found[2] or "", found[3], found[4]
        value = device.attributes.get(f"{domain}/{name}")
        return value is not None and _compare(value, operator, _literal(found.groups()[4:]))
    if found := _CAPACITY.match(atom):
        domain, name = found[1] or found[2] or "", found[3]
        there = device.capacity.get(f"{domain}/{name}")
        return there is not None and _holds_amount(there, found[6], found[4] or found[5] or "")
    return True


def _literal(groups: tuple[str | None, ...]) -> str | int | bool:
    double, single, number, truth = groups
    if number is not None:
        return int(number)
    return truth == "true" if truth is not None else (double or single or "")


def _compare(there: object, operator: str, wanted: object) -> bool:
    same = type(there) is type(wanted) and there == wanted
    return same == (operator == "==")


def _holds_amount(there: int, operator: str, text: str) -> bool:
    try:
        wanted = Quantity.parse(text).exact
    except ValueError:
        return True  # the scheduler will say what is wrong with it
    return {
        ">=": there >= wanted,
        "<=": there <= wanted,
        "==": there == wanted,
        "!=": there != wanted,
        ">": there > wanted,
        "<": there < wanted,
    }[operator]
