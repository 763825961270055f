"""What a person with kubectl sees of the API: kinds, columns, explanations, scaling, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from roundhouse_api.crdgen import crd_name
from roundhouse_api.kinds import KINDS, Kind
from roundhouse_api.model import Manifest
from tests.cluster.local import Cluster, ClusterError
from tests.conformance.api.table import TABLE

by_name = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@by_name
def test_the_crds_are_established_without_complaint(kind: Kind, control_plane: Cluster) -> None:
    crd = json.loads(control_plane.kubectl("get", "crd", crd_name(kind), "-o", "json"))
    conditions = {each["type"]: each["status"] for each in crd["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert conditions.get("NonStructuralSchema", "False") == "False"


@by_name
def test_each_kind_has_short_name_and_category(kind: Kind, control_plane: Cluster) -> None:
    listed = control_plane.kubectl(
        "api-resources", "--api-group=roundhouse.dev", "--categories=roundhouse", "--no-headers"
    )
    row = next(line.split() for line in listed.splitlines() if line.startswith(kind.plural))
    assert row == [kind.plural, kind.short_name, "roundhouse.dev/v1alpha1", "true", kind.name]


def test_explain_helps_with_a_source(control_plane: Cluster) -> None:
    text = " ".join(control_plane.kubectl("explain", "modelvariant.spec.source").split())
    assert "Where the weights come from." in text
    assert "enum: HuggingFace, S3, GCS, OCI" in text
    assert "A repository of the Hugging Face Hub." in text
    assert "Space that the weights take on disk" in text


@by_name
def test_explain_describes_every_field(kind: Kind, control_plane: Cluster) -> None:
    for part in ("spec", "status"):
        text = control_plane.kubectl("explain", f"{kind.name.lower()}.{part}", "--recursive=false")
        assert "<no description>" not in text


def test_get_reads_like_a_status_page(control_plane: Cluster, namespace: str) -> None:
    for folder in ("engine", "modelvariant", "adapter", "selectionpolicy"):
        store_with_status(control_plane, namespace, TABLE / folder / "valid/with-status.yaml")
    page = control_plane.kubectl("get", "roundhouse", "-A").splitlines()
    rows = [line.split()[1:] for line in page if line.startswith(namespace)]
    headings = [line.split()[1:] for line in page if line.startswith("NAMESPACE")]
    assert ["NAME", "READY", "REASON", "DEGRADED", "MODEL", "ENGINE", "WANT", "UP", "AGE"] in headings
    assert [" ".join(row[:-1]) for row in sorted(rows)] == [
        "adapter.roundhouse.dev/with-status False Incompatible facebook/musicgen-large lofi 0",
        "engine.roundhouse.dev/with-status True Serving Transcribe Dedicated 1.0.0 1 2",
        "modelvariant.roundhouse.dev/with-status True Serving pocketsphinx pocketsphinx 1 1",
        'selectionpolicy.roundhouse.dev/with-status True Serving Priority ["auto"]',
    ]


def test_wide_columns_say_why(control_plane: Cluster, namespace: str) -> None:
    store_with_status(control_plane, namespace, TABLE / "modelvariant/valid/with-status.yaml")
    headings, row = control_plane.kubectl("get", "mv", "-n", namespace, "-o", "wide").splitlines()
    assert headings.split()[8:] == ["DEVICE", "NEEDS", "PHASE", "MESSAGE", "AGE"]
    assert row.split()[7:10] == ["CPU", "2650M", "Running"]


def test_a_variant_is_scaled_through_its_subresource(control_plane: Cluster, namespace: str) -> None:
    store_with_status(control_plane, namespace, TABLE / "modelvariant/valid/with-status.yaml")
    control_plane.kubectl("scale", "mv/with-status", "-n", namespace, "--replicas=3")
    path = f"/apis/roundhouse.dev/v1alpha1/namespaces/{namespace}/modelvariants/with-status/scale"
    scale = json.loads(control_plane.kubectl("get", "--raw", path))
    assert scale["spec"]["replicas"] == 3
    assert scale["status"] == {
        "replicas": 1,
        "selector": "roundhouse.dev/managed=true,roundhouse.dev/variant=with-status",
    }


def test_a_misspelt_field_is_refused_by_its_name(control_plane: Cluster, namespace: str) -> None:
    manifest = read(TABLE / "modelvariant/valid/least.yaml")
    manifest["spec"]["severdName"] = "whisper-base"
    with pytest.raises(ClusterError, match=r'unknown field "spec.severdName"'):
        control_plane.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(manifest))


def test_two_writers_own_entries_of_one_list(control_plane: Cluster, namespace: str) -> None:
    """Lists with keys and sets merge under server-side apply; atomic lists would be fought over."""

    def applied(manager: str, spec: Manifest) -> Manifest:
        manifest = {**read(TABLE / "modelvariant/valid/least.yaml"), "spec": spec}
        how = ("--server-side", f"--field-manager={manager}", "-n", namespace, "-o", "json")
        answer = control_plane.kubectl("apply", *how, "-f", "-", input=json.dumps(manifest))
        merged: Manifest = json.loads(answer)["spec"]
        return merged

    whole = read(TABLE / "modelvariant/valid/least.yaml")["spec"]
    applied("author", {**whole, "aliases": ["fast"], "env": [{"name": "A", "value": "1"}]})
    merged = applied("colleague", {**whole, "aliases": ["base"], "env": [{"name": "B", "value": "2"}]})
    assert sorted(merged["aliases"]) == ["base", "fast"]
    assert {each["name"] for each in merged["env"]} == {"A", "B"}


def store_with_status(cluster: Cluster, namespace: str, path: Path) -> None:
    manifest = read(path)
    status = json.dumps({"status": manifest.pop("status")})
    cluster.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(manifest))
    target = f"{manifest['kind']}/{manifest['metadata']['name']}"
    cluster.kubectl("patch", target, "-n", namespace, "--subresource=status", "--type=merge", "-p", status)


def read(path: Path) -> Manifest:
    manifest: Manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    return manifest
