"""What a file asks for, tried on the API server without being kept, and put into the picture.

Where the caller may not try it, it is read by the API's own models instead: these know the schema, and not
what an admission webhook would say.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from roundhouse_api.model import Manifest
from roundhouse_operator.commands.picture import FORBIDDEN, Picture
from roundhouse_operator.core.kinds import API_KINDS, Key, Kind
from roundhouse_operator.core.preview import FieldChange, spec_changes
from roundhouse_operator.errors import NotFoundError, RefusedError

_NEWEST: Final = itertools.count(2**60)
"""Versions above all that an API server gives out, so that the cache takes what is tried for the newest."""


class UnreadableError(Exception):
    """A file that holds no manifests; the text says why."""


@dataclass(slots=True)
class Asked:
    """One manifest. `verdict` is new, changed, unchanged or refused."""

    key: Key
    verdict: str
    fields: list[FieldChange] = field(default_factory=list)
    message: str = ""


def read_manifests(text: str, where: str) -> Iterator[Manifest]:
    """Those of Roundhouse's own kinds, lists taken apart; others have nothing to do with it."""
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise UnreadableError(f"{where} is not YAML: {error}") from error
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise UnreadableError(f"{where} holds something else than manifests: {type(document).__name__}")
        items = document.get("items") if document.get("kind") == "List" else [document]
        for item in items or ():
            if kind_of(item):
                name = (item.get("metadata") or {}).get("name")
                if not isinstance(name, str):
                    raise UnreadableError(f"{where}: a {item.get('kind')} has no metadata.name")
                yield item


def kind_of(manifest: Any) -> Kind | None:  # noqa: ANN401
    known = {(kind.api_version, kind.name): kind for kind in API_KINDS}
    if not isinstance(manifest, dict):
        return None
    return known.get((str(manifest.get("apiVersion")), str(manifest.get("kind"))))


async def try_out(picture: Picture, manifest: Manifest) -> Asked:
    """Puts what would come of it into the picture, unless it would be refused."""
    kind = kind_of(manifest)
    assert kind  # noqa: S101  # read_manifests lets nothing else through
    manifest = {**manifest, "metadata": {"namespace": picture.namespace, **manifest["metadata"]}}
    metadata = manifest["metadata"]
    key = Key(kind, metadata["namespace"], metadata["name"])
    if key.namespace != picture.namespace:
        return Asked(key, "refused", message=f"it is of another namespace: ask again with -n {key.namespace}")
    before = await _live(picture, key)
    try:
        after = await picture.cluster.try_apply(kind, manifest, force=True)
    except RefusedError as error:
        if error.status != FORBIDDEN:
            return Asked(key, "refused", message=error.message)
        picture.lacking.add(f"patch {kind.plural} (to try it on the API server)")
        after = _merged(manifest, before)
    after["metadata"]["resourceVersion"] = str(next(_NEWEST))
    picture.cache.upsert(kind, after)
    if before is None:
        return Asked(key, "new")
    fields = list(spec_changes(before.get("spec") or {}, after.get("spec") or {}))
    return Asked(key, "changed" if fields else "unchanged", fields)


async def _live(picture: Picture, key: Key) -> Manifest | None:
    try:
        return await picture.cluster.get(key.kind, key.namespace, key.name)
    except NotFoundError:
        return None


def _merged(manifest: Manifest, before: Manifest | None) -> Manifest:
    """As far as it can be told without the API server: the spec is that of the file."""
    if before is None:
        created = {"uid": "not-yet", "generation": 1, "creationTimestamp": "9999-12-31T23:59:59Z"}
        return {**manifest, "metadata": {**created, **manifest["metadata"]}}
    changed = before.get("spec") != manifest.get("spec")
    metadata = {**before["metadata"], "generation": before["metadata"].get("generation", 0) + changed}
    return {**before, "metadata": metadata, "spec": manifest.get("spec") or {}}
