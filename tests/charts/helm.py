"""Runs the Helm that the local cluster's binaries are built with, on this repository's chart."""

import json
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.local.build import binary_folder

CHART = Path(__file__).resolve().parents[2] / "charts" / "roundhouse"

Manifest = dict[str, Any]


class HelmError(Exception):
    """Helm is missing or refused; the message is Helm's own, or says what to do."""


def tool(name: str) -> str:
    """The path of one of the local cluster's binaries."""
    path = binary_folder() / name
    if not path.is_file():
        raise HelmError(f"{name} is not built: run `python -m tests.cluster.local build` (`make test` does)")
    return str(path)


def helm(*arguments: str, kubeconfig: Path | None = None) -> str:
    """What a Helm command prints; HelmError with what it prints to stderr if it fails."""
    target = ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    done = subprocess.run([tool("helm"), *arguments, *target], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HelmError(done.stderr or done.stdout)
    return done.stdout


def render(
    values: Manifest | None = None,
    *,
    release: str = "rh",
    namespace: str = "models",
    definitions: bool = False,
) -> list[Manifest]:
    """The chart's manifests with `values`, as Helm would send them; the large definitions only if wanted."""
    chosen = {**(values or {})} if definitions else {"crds": {"enabled": False}, **(values or {})}
    return json.loads(_rendered(json.dumps(chosen), release, namespace))  # type: ignore[no-any-return]


@cache
def _rendered(values: str, release: str, namespace: str) -> str:
    options = ["--namespace", namespace]
    options += [f"--set-json={key}={json.dumps(value)}" for key, value in json.loads(values).items()]
    text = helm("template", release, str(CHART), *options)
    return json.dumps([manifest for manifest in yaml.load_all(text, yaml.CSafeLoader) if manifest])


def notes(values: Manifest) -> str:
    """What `helm install` tells; Helm itself wants a cluster to tell it, so a manifest says it here."""
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(shutil.copytree(CHART, Path(folder) / "chart"))
        templates = chart / "templates"
        text = (templates / "NOTES.txt").read_text()
        (templates / "_notes.tpl").write_text(f'{{{{- define "notes" }}}}{text}{{{{- end }}}}')
        (templates / "notes.yaml").write_text('text: {{ include "notes" . | toJson }}')
        options = [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
        shown = ["--show-only", "templates/notes.yaml", "--namespace", "models"]
        return str(yaml.safe_load(helm("template", "rh", str(chart), *shown, *options))["text"])
