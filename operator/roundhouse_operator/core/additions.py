"""What a person added to a child beyond what is wanted, and the patch that takes it away again.

Server-side apply says what we want and leaves alone what others have besides: a variable of `kubectl set
env` would stay for ever, with the pods that it started. What a controller holds too is left to it, and so
are metadata: `kubectl rollout restart` writes an annotation, and to take that away would restart again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from roundhouse_api.model import Manifest
from roundhouse_operator.core.fields import Fields, ItemKey, Ownership, Path, item_with


def added_by_hand(wanted: Manifest, live: Manifest, ownership: Ownership) -> list[Path]:
    """Fields of `live`'s spec that only people hold and that `wanted` does not name."""
    found: dict[Path, None] = {}
    for owner in ownership.others:
        if owner.by_hand and "f:spec" in owner.fields:
            for path in _added(wanted["spec"], live["spec"], owner.fields["f:spec"], ("spec",)):
                if all(holder.by_hand for holder in ownership.holders(path)):
                    found[path] = None
    return list(found)


def removal(live: Manifest, paths: Iterable[Path]) -> list[Manifest]:
    """A JSON patch that takes `paths` away, provided that the object and its lists are as they were."""
    tests: dict[str, Any] = {"/metadata/uid": live["metadata"]["uid"]}
    places: list[tuple[str | int, ...]] = []
    for path in paths:
        place: tuple[str | int, ...] = ()
        value: Any = live
        for step in path:
            if isinstance(step, str):
                place, value = (*place, step), value[step]
                continue
            item = item_with(value, step)
            place, value = (*place, value.index(item)), item
            tests.update({_pointer((*place, name)): part for name, part in step})
        places.append(place)
    last_first = sorted(places, key=lambda place: [(str(type(one)), one) for one in place], reverse=True)
    return [
        *({"op": "test", "path": pointer, "value": value} for pointer, value in tests.items()),
        *({"op": "remove", "path": _pointer(place)} for place in last_first),
    ]


def _added(wanted: Any, live: Any, theirs: Fields, path: Path) -> Iterator[Path]:  # noqa: ANN401
    for step, inner in theirs.items():
        kind, _, rest = step.partition(":")
        if kind == "f" and isinstance(live, dict) and rest in live and (*path, rest) != _TEMPLATE_METADATA:
            yield from _member(wanted, live[rest], inner, (*path, rest))
        elif kind == "k" and isinstance(live, list):
            yield from _item(wanted, live, inner, path, tuple(json.loads(rest).items()))


def _member(wanted: Any, live: Any, inner: Fields, path: Path) -> Iterator[Path]:  # noqa: ANN401
    name = path[-1]
    if isinstance(wanted, dict) and name in wanted:
        yield from _added(wanted[name], live, inner, path)
    elif not inner or "." in inner:
        yield path
    else:
        yield from _added(None, live, inner, path)


def _item(wanted: Any, live: list[Any], inner: Fields, path: Path, key: ItemKey) -> Iterator[Path]:  # noqa: ANN401
    item = item_with(live, key)
    mine = item_with(wanted, key) if isinstance(wanted, list) else None
    if item is None:
        return
    if mine is not None:
        yield from _added(mine, item, inner, (*path, key))
    elif "." in inner:
        yield (*path, key)


_TEMPLATE_METADATA: Path = ("spec", "template", "metadata")


def _pointer(place: Iterable[str | int]) -> str:
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in place)
