"""The table of resources: `<kind>/{valid,invalid,updates}/*.yaml` beside this file.

A file is a manifest as a user would write it. Comments at its head say, for one that must be refused,
the `field` that both the API server and the models name, and what the API server's message says of it
(`expect`). A file under updates holds two manifests: what is stored, and what may not replace it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import yaml
from kubernetes.client import ApiClient, ApiException, CustomObjectsApi

from roundhouse_api.kinds import KINDS, Kind
from roundhouse_api.model import Manifest
from roundhouse_api.names import GROUP, VERSION

TABLE = Path(__file__).parent
EXAMPLES = TABLE.parents[2] / "examples"
HEADER = re.compile(r"^# (field|expect): (.+)$", re.MULTILINE)
KIND_BY_FOLDER = {kind.name.lower(): kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Case:
    """A file of the table."""

    id: str
    kind: Kind
    manifests: tuple[Manifest, ...]
    field: str = ""
    expect: str = ""

    @property
    def manifest(self) -> Manifest:
        return self.manifests[0]


@cache
def cases(verdict: str) -> tuple[Case, ...]:
    """The cases of one verdict."""
    return tuple(read(path) for path in sorted(TABLE.glob(f"*/{verdict}/*.yaml")))


@cache
def examples() -> tuple[Case, ...]:
    """What users are given to begin with, each resource of ours a case."""
    kinds = {kind.name: kind for kind in KINDS}
    return tuple(
        Case(f"{path.stem}/{manifest['metadata']['name']}", kinds[manifest["kind"]], (manifest,))
        for path in sorted(EXAMPLES.glob("*.yaml"))
        for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if manifest["apiVersion"] == f"{GROUP}/{VERSION}"
    )


def read(path: Path) -> Case:
    text = path.read_text(encoding="utf-8")
    said = dict(HEADER.findall(text))
    return Case(
        id=str(path.relative_to(TABLE).with_suffix("")),
        kind=KIND_BY_FOLDER[path.parts[-3]],
        manifests=tuple(yaml.safe_load_all(text)),
        field=said.get("field", ""),
        expect=said.get("expect", ""),
    )


@dataclass(frozen=True, slots=True)
class Shelf:
    """The resources of one namespace of a real API server."""

    client: ApiClient
    namespace: str

    def create(self, kind: Kind, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """As kubectl creates it: a field that would be pruned is an error."""
        created = CustomObjectsApi(self.client).create_namespaced_custom_object(
            *self._place(kind), manifest, field_validation="Strict", dry_run="All" if dry_run else None
        )
        return cast("Manifest", created)

    def replace(self, kind: Kind, manifest: Manifest, *, status: bool = False) -> Manifest:
        """As the operator writes a status, or a user a changed spec."""
        api = CustomObjectsApi(self.client)
        call = api.replace_namespaced_custom_object_status if status else api.replace_namespaced_custom_object
        replaced = call(*self._place(kind), manifest["metadata"]["name"], manifest, field_validation="Strict")
        return cast("Manifest", replaced)

    def get(self, kind: Kind, name: str) -> Manifest:
        return cast(
            "Manifest", CustomObjectsApi(self.client).get_namespaced_custom_object(*self._place(kind), name)
        )

    def _place(self, kind: Kind) -> tuple[str, str, str, str]:
        return GROUP, VERSION, self.namespace, kind.plural


def refusal(error: ApiException) -> str:
    """What kubectl prints of an error."""
    message: str = json.loads(error.body or "{}")["message"]
    return message
