"""Who owns which field of a child, and where the child differs from what we want.

Works on managed fields as the API server reports them (`fieldsV1`), so that nothing of our own has to be
stored anywhere: a field that we own and no longer want is seen as surely as one that was edited by hand.
Whether a difference is repaired or left to its owner is decided in `plan`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from roundhouse_api.model import Manifest
from roundhouse_api.quantity import Quantity
from roundhouse_operator.core.structure import is_whole, list_keys, same_whole

Fields = Mapping[str, Any]
"""A `fieldsV1` tree: `f:name` members, `k:{"name":"x"}` and `v:"x"` list items, `.` the thing itself."""

_QUANTITY_PARENTS: Final = frozenset({"limits", "requests"})
_QUANTITY_NAMES: Final = frozenset({"sizeLimit"})

_NOTHING: Final = object()

ItemKey = tuple[tuple[str, Any], ...]
"""The key values of a list item."""
Step = str | ItemKey
Path = tuple[Step, ...]


def by_hand(manager: str) -> bool:
    """Whether it is a person's tool."""
    return manager.startswith("kubectl")


@dataclass(frozen=True, slots=True)
class Owner:
    """One entry of `managedFields`, without the status subresource's."""

    manager: str
    operation: str
    fields: Fields

    @property
    def by_hand(self) -> bool:
        """`kubectl edit`, `patch`, `set`, `scale`: a person changed it once and holds nothing since."""
        return self.operation == "Update" and by_hand(self.manager)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Our own fields of an object, and everybody else's."""

    ours: Fields
    others: tuple[Owner, ...]

    @classmethod
    def read(cls, managed_fields: list[Manifest], manager: str) -> Ownership:
        entries = [
            Owner(entry["manager"], entry["operation"], entry.get("fieldsV1") or {})
            for entry in managed_fields
            if entry.get("subresource", "") != "status"
        ]
        ours = [one.fields for one in entries if one.manager == manager and one.operation == "Apply"]
        return cls(ours[0] if ours else {}, tuple(one for one in entries if one.manager != manager))

    def holders(self, path: Path) -> Iterator[Owner]:
        """Everybody else who owns the field at `path`, a part of it, or what it is a part of."""
        return (owner for owner in self.others if _owns(owner.fields, path))


def differences(wanted: Manifest, live: Manifest, ours: Fields) -> list[Path]:
    """Where `live` lacks or contradicts `wanted`; what `live` has beyond it is not ours to judge.

    But in a map or a list that has one owner as a whole: whoever adds to it takes it from us with all it has.
    """
    return list(_compare(wanted, live, ours, ()))


def has_leftovers(wanted: Manifest, ours: Fields) -> bool:
    """Whether we own a field that `wanted` no longer names: the next apply removes it."""
    return _leaves_over(wanted, ours)


def without(manifest: Manifest, paths: list[Path]) -> Manifest:
    """A copy that says nothing about the fields at `paths`."""
    copy: Manifest = json.loads(json.dumps(manifest))
    for path in paths:
        parent = value_at(copy, path[:-1])
        if isinstance(parent, dict) and isinstance(path[-1], str):
            parent.pop(path[-1], None)
        elif isinstance(parent, list):
            parent[:] = [item for item in parent if not _has_key(item, path[-1])]
    return copy


def owned_part(live: Manifest, ours: Fields) -> Manifest:
    """What `live` has of the fields that we own: to apply it changes nothing, and lets go of nothing."""
    head = {key: live[key] for key in ("apiVersion", "kind")}
    named = {key: live["metadata"][key] for key in ("name", "namespace")}
    part: Manifest = _owned_part(live, ours) if ours else {}
    return {**part, **head, "metadata": {**part.get("metadata", {}), **named}}


def written(path: Path) -> str:
    """As the API server's own conflicts spell it: `.spec.containers[name="engine"].image`."""
    return "".join(
        f".{step}"
        if isinstance(step, str)
        else f"[{','.join(f'{key}={json.dumps(value)}' for key, value in step)}]"
        for step in path
    )


def item_with(items: list[Any], key: ItemKey) -> Any:  # noqa: ANN401
    """The item of a list that has these key values; None where there is none."""
    return next((item for item in items if _has_key(item, key)), None)


def _owned_part(live: Any, ours: Fields) -> Any:  # noqa: ANN401
    """A leaf of `ours` is owned as a whole."""
    if isinstance(live, dict) and any(step.startswith("f:") for step in ours):
        owned = ((step.removeprefix("f:"), inner) for step, inner in ours.items() if step != ".")
        return {name: _owned_part(live[name], inner) for name, inner in owned if name in live}
    if isinstance(live, list) and any(step.startswith("k:") for step in ours):
        keyed = ((dict(_named(step)), inner) for step, inner in ours.items() if step.startswith("k:"))
        found = ((key, item_with(live, tuple(key.items())), inner) for key, inner in keyed)
        return [
            {**key, **_owned_part(item, inner)} if inner else item
            for key, item, inner in found
            if item is not None
        ]
    return live


def _compare(wanted: Any, live: Any, ours: Fields, path: Path) -> Iterator[Path]:  # noqa: ANN401
    """Of what has one owner for each of its members; the rest is compared where its name is known."""
    if wanted == live:
        return  # most of it, and told in C
    match wanted, live:
        case dict(), dict():
            for name, value in wanted.items():
                yield from _compare_member(value, live.get(name, _NOTHING), ours, (*path, name))
        case list(), list() if isinstance(path[-1], str) and (keys := list_keys(path[-1], wanted)):
            for item in wanted:
                yield from _compare_item(item, live, ours, (*path, _key_of(item, keys)))
        case _:
            if not _same_quantity(wanted, live, path):
                yield path


def _compare_member(value: Any, live: Any, ours: Fields, path: tuple[Any, ...]) -> Iterator[Path]:  # noqa: ANN401
    """`path` ends in the member's name, and `ours` are our fields beside it."""
    name = path[-1]
    taken = f"f:{name}" not in ours
    if live is _NOTHING:
        if value or taken:
            # The API server leaves out an empty value that we own; what we no longer own is missing.
            yield path
    elif is_whole(name, value):
        # As a whole also where it is ours: inside of it nobody is told to own what we no longer want.
        if not same_whole(name, value, live):
            yield path
    else:
        yield from _compare(value, live, ours.get(f"f:{name}", {}), path)


def _compare_item(item: Any, live: list[Any], ours: Fields, path: Path) -> Iterator[Path]:  # noqa: ANN401
    """`path` ends in the item's key."""
    key: Any = path[-1]
    twin = item_with(live, key)
    if twin is None:
        yield path
    else:
        yield from _compare(item, twin, _item_fields(ours, key) or {}, path)


def _key_of(item: Any, keys: tuple[str, ...]) -> ItemKey:  # noqa: ANN401
    return tuple((name, item[name]) for name in keys if name in item)


def _same_quantity(wanted: object, live: object, path: Path) -> bool:
    """The API server writes `1000m` back as `1`."""
    if path[-1] not in _QUANTITY_NAMES and (len(path) < 2 or path[-2] not in _QUANTITY_PARENTS):
        return False
    try:
        return Quantity.parse(wanted).exact == Quantity.parse(live).exact
    except ValueError:
        return False


def _leaves_over(wanted: Any, ours: Fields) -> bool:  # noqa: ANN401
    for step, inner in ours.items():
        if step == ".":
            continue
        value = _wanted_at(wanted, step)
        if value is _NOTHING or (inner and _leaves_over(value, inner)):
            return True
    return False


def _wanted_at(wanted: Any, step: str) -> Any:  # noqa: ANN401
    if step.startswith("f:"):
        return wanted.get(step[2:], _NOTHING) if isinstance(wanted, dict) else _NOTHING
    if not isinstance(wanted, list):
        return _NOTHING
    named = _named(step)
    if step.startswith("k:"):
        item = item_with(wanted, named)
        return _NOTHING if item is None else item
    return named if named in wanted else _NOTHING


@lru_cache(4096)
def _named(step: str) -> Any:  # noqa: ANN401
    """The key values of `k:{…}`, the value of `v:…`: the same few come in every object."""
    named = json.loads(step[2:])
    return tuple(named.items()) if step.startswith("k:") else named


def _owns(fields: Fields, path: Path) -> bool:
    for step in path:
        if not fields:
            return True  # owned as a whole
        inner = fields.get(f"f:{step}") if isinstance(step, str) else _item_fields(fields, step)
        if inner is None:
            return False
        fields = inner
    return True


def _item_fields(fields: Fields, key: ItemKey) -> Fields | None:
    for step, inner in fields.items():
        if step.startswith("k:") and dict(_named(step)) == dict(key):
            found: Fields = inner
            return found
    return None


def value_at(value: Any, path: Path) -> Any:  # noqa: ANN401
    """None where there is nothing."""
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = item_with(value, step) if isinstance(value, list) else None
    return value


def _has_key(item: Any, key: Step) -> bool:  # noqa: ANN401
    return not isinstance(key, str) and all(item.get(name) == value for name, value in key)
