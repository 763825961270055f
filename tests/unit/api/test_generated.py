"""What is made from the models: that it is current, and what holds for every field of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel

from roundhouse_api import crdgen, generate
from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.kinds import KINDS, Kind
from roundhouse_api.model import Manifest
from roundhouse_api.structural import structural_schema

ROOT = Path(__file__).parents[3]
OVERRIDES = ("capabilities", "hardware", "performance", "scaling")
OPAQUE = "x-kubernetes-preserve-unknown-fields"

by_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@cache
def schema_of(kind: Kind) -> Manifest:
    schema: Manifest = crdgen.build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def fields(path: str, schema: Manifest) -> Iterator[tuple[str, Manifest]]:
    """All fields below, items and map values included, that the project describes itself."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        if (path, name) not in {("", "apiVersion"), ("", "kind"), ("", "metadata")}:
            yield from fields(f"{path}.{name}", child)
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from fields(path + mark, schema[key])


def test_all_generated_files_are_current() -> None:
    assert [str(path) for path in generate.differences(ROOT, generate.generated_files())] == []


def test_generation_gives_the_same_twice() -> None:
    assert generate.generated_files() == generate.generated_files()


def test_check_names_what_differs_and_generate_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(tmp_path)]
    assert generate.main(root) == 0
    assert generate.main([*root, "--check"]) == 0
    (tmp_path / "docs/reference/api.md").write_text("edited by hand")
    (tmp_path / "crds/roundhouse.dev_ghosts.yaml").write_text("a kind that is no more")
    assert generate.main([*root, "--check"]) == 1
    said = capsys.readouterr().err
    assert "docs/reference/api.md, crds/roundhouse.dev_ghosts.yaml" in said
    assert "make gen" in said
    assert generate.main(root) == 0
    assert generate.main([*root, "--check"]) == 0
    assert not (tmp_path / "crds/roundhouse.dev_ghosts.yaml").exists()


def test_crds_alone_can_be_written_to_a_folder(tmp_path: Path) -> None:
    assert crdgen.main([str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in (ROOT / "crds").glob("*.yaml")}
    assert crdgen.main([]) == 2


def test_a_keyword_without_a_rule_is_an_error_and_not_lost() -> None:
    class Surprise(BaseModel):
        pair: tuple[int, str]

    with pytest.raises(ValueError, match=r"prefixItems.*structural\.py"):
        structural_schema(Surprise)


def test_a_literal_of_one_value_becomes_an_enum() -> None:
    class One(BaseModel):
        kind: Literal["Only"]

    assert structural_schema(One)["properties"]["kind"] == {"type": "string", "enum": ["Only"]}


@by_kind
def test_every_field_is_described(kind: Kind) -> None:
    undescribed = [
        path
        for path, field in fields("", schema_of(kind))
        if not path.endswith(("[]", "{}")) and not re.match(r"[A-Z`\"].*\.$", field.get("description", ""))
    ]
    assert undescribed == []


@by_kind
def test_everything_is_bounded(kind: Kind) -> None:
    limits = {"string": "maxLength", "array": "maxItems", "integer": "maximum"}
    unbounded = [
        path
        for path, field in fields("", schema_of(kind))
        if "enum" not in field and field.get("type") in limits and limits[field["type"]] not in field
    ]
    assert unbounded == []
    maps = [field for _, field in fields("", schema_of(kind)) if "additionalProperties" in field]
    assert all("maxProperties" in each for each in maps)


@by_kind
def test_every_list_says_how_it_merges(kind: Kind) -> None:
    lists = [(path, field) for path, field in fields("", schema_of(kind)) if field.get("type") == "array"]
    assert [path for path, field in lists if "x-kubernetes-list-type" not in field] == []


@by_kind
def test_status_is_owned_whole_but_for_conditions(kind: Kind) -> None:
    for name, field in schema_of(kind)["properties"]["status"]["properties"].items():
        if name == "conditions":
            assert field["x-kubernetes-list-map-keys"] == ["type"]
        elif field["type"] == "array":
            assert field["x-kubernetes-list-type"] == "atomic"
        elif field["type"] == "object":
            assert field["x-kubernetes-map-type"] == "atomic"


def test_defaults_are_these_and_no_others() -> None:
    """A default that is added later changes stored objects; one in a struct of overrides always overrides."""
    defaults = {
        f"{kind.name}{path}": field["default"]
        for kind in KINDS
        for path, field in fields("", schema_of(kind))
        if "default" in field
    }
    assert defaults == {
        "Engine.spec.type": "Workload",
        "Engine.spec.api.dialect": "Roundhouse",
        "Engine.spec.api.port": 8000,
        "ModelVariant.spec.engineRef.kind": "Engine",
        "ModelVariant.spec.downloadPolicy": "Auto",
        "ModelVariant.spec.selection.priority": 0,
        "ModelVariant.spec.replicas": 1,
        "ModelVariant.spec.suspend": False,
        "Adapter.spec.suspend": False,
        "SelectionPolicy.spec.servedNames": ["auto"],
    }
    assert not any(f".{override}." in path for path in defaults for override in OVERRIDES)


@by_kind
def test_enums_are_camel_case(kind: Kind) -> None:
    outside = {"pcm_s16le", "pcm_f32le", "mulaw", "alaw"}
    values = {value for _, field in fields("", schema_of(kind)) for value in field.get("enum", ())}
    assert [value for value in values - outside if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", value)] == []


@by_kind
def test_columns_and_scale_point_at_fields(kind: Kind) -> None:
    paths = {path for path, _ in fields("", schema_of(kind))}
    pointers = [column.json_path for column in kind.columns if column.name != "Age"]
    if scale := kind.scale:
        pointers += [scale.spec_replicas_path, scale.status_replicas_path, scale.label_selector_path]
    plain = [re.sub(r"\[\?.*?\]", "[]", pointer) for pointer in pointers]
    assert [pointer for pointer in plain if pointer not in paths] == []


def test_opaque_objects_are_these() -> None:
    """Everything else is pruned to what is known."""
    opaque = {
        f"{kind.name}{path}"
        for kind in KINDS
        for path, field in fields("", schema_of(kind))
        if field.get(OPAQUE)
    }
    assert opaque == {
        "Engine.spec.workload.podTemplate",
        "Engine.spec.hardware.affinity",
        "ModelVariant.spec.hardware.affinity",
        "ModelVariant.spec.requestDefaults",
    }


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_meaning_and_advice(reason: Reason) -> None:
    assert re.fullmatch(r"[A-Z][A-Za-z]+", reason)
    assert reason.meaning.endswith(".")
    assert reason.advice.endswith(".")
    assert Reason(str(reason)) is reason
    page = (ROOT / "docs/reference/conditions.md").read_text()
    assert f"| `{reason}` | {reason.meaning} | {reason.advice} |" in page


def test_a_variant_has_the_eight_conditions_and_two_that_come_and_go() -> None:
    of_variant = [each for each in ConditionType if "ModelVariant" in each.kinds]
    assert set(of_variant) == {
        *("Ready", "Accepted", "EngineSelected", "WeightsReady", "Scheduled", "Available", "Verified"),
        *("UpToDate", "Degraded", "OwnershipConflict"),
    }
