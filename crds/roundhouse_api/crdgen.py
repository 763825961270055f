"""The CustomResourceDefinitions, made from the models: `python -m roundhouse_api.crdgen crds/`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import yaml

from roundhouse_api.kinds import KINDS, Column, Kind
from roundhouse_api.model import Manifest
from roundhouse_api.names import CATEGORY, GROUP, VERSION
from roundhouse_api.structural import as_status, structural_schema

HEADER: Final = "# Made from crds/roundhouse_api by `make gen`. Change the models instead.\n"


def crd_name(kind: Kind) -> str:
    return f"{kind.plural}.{GROUP}"


def build_crd(kind: Kind) -> Manifest:
    """The CustomResourceDefinition of a kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": crd_name(kind)},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": [CATEGORY],
            },
            "versions": [_version(kind)],
        },
    }


def render_crds() -> dict[str, str]:
    """File name → text, for each kind."""
    return {
        f"{GROUP}_{kind.plural}.yaml": HEADER + yaml.safe_dump(build_crd(kind), sort_keys=False, width=100)
        for kind in KINDS
    }


def _version(kind: Kind) -> Manifest:
    subresources: Manifest = {"status": {}}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": kind.scale.spec_replicas_path,
            "statusReplicasPath": kind.scale.status_replicas_path,
            "labelSelectorPath": kind.scale.label_selector_path,
        }
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": subresources,
        "additionalPrinterColumns": [_column(each) for each in kind.columns],
        "schema": {"openAPIV3Schema": _schema(kind)},
    }


def _column(column: Column) -> Manifest:
    rendered: Manifest = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    return {**rendered, "priority": 1} if column.wide else rendered


def _schema(kind: Kind) -> Manifest:
    schema = structural_schema(kind.model)
    fields = schema["properties"]
    fields["apiVersion"] = {"type": "string"}
    fields["kind"] = {"type": "string"}
    fields["metadata"] = {"type": "object"}
    schema["required"] = [name for name in schema["required"] if name != "metadata"]
    fields["status"] = as_status(fields["status"])
    return schema


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m roundhouse_api.crdgen DIRECTORY\n")
        return 2
    for name, text in render_crds().items():
        (Path(arguments[0]) / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
