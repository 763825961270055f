"""The cache of binaries: verified, resumable, shared. A stub stands for Go, so nothing is compiled."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.cluster.local import build
from tests.cluster.local.errors import ClusterError
from tests.cluster.local.paths import repository_root
from tests.cluster.local.pins import (
    BINARIES,
    CONTROL_PLANE_NAMES,
    GO_NEEDED,
    HELM_VERSION,
    KUBERNETES_VERSION,
    MODULES,
    NAMES,
    binary_key,
)

# Writes what it was asked to build into the file it was asked to write, and notes each call.
STUB = """#!/bin/sh
if [ "$1" = env ]; then echo go1.99.1; exit; fi
echo "$@" >> "$STUB_CALLS"
if [ -n "$STUB_FAILS" ] && [ "$(wc -l < "$STUB_CALLS")" -ge "$STUB_FAILS" ]; then
  echo "no route to the module proxy" >&2; exit 1
fi
while [ "$1" != -o ]; do shift; done
echo "binary of $3" > "$2"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "go").write_text(STUB)
    (tmp_path / "go").chmod(0o755)
    noted = tmp_path / "calls"
    noted.touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("ROUNDHOUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STUB_CALLS", str(noted))
    monkeypatch.delenv("STUB_FAILS", raising=False)
    return noted


def built(calls: Path) -> list[str]:
    """The packages that were built, in order."""
    return [line.split()[-1] for line in calls.read_text().splitlines()]


def quiet(_: str) -> None:
    pass


def test_all_are_built_once_with_progress(calls: Path) -> None:
    said: list[str] = []
    folder = build.ensure_binaries(said.append)
    assert built(calls) == [binary.package for binary in BINARIES]
    assert (folder / "kubelet").read_text() == "binary of k8s.io/kubernetes/cmd/kubelet\n"
    assert any(line.startswith(f"[8/{len(BINARIES)}] kubelet: built in") for line in said)
    build.ensure_binaries(said.append)
    assert len(built(calls)) == len(BINARIES)


def test_the_control_plane_needs_fewer(calls: Path) -> None:
    build.ensure_binaries(quiet, CONTROL_PLANE_NAMES)
    assert len(built(calls)) == len(CONTROL_PLANE_NAMES) < len(NAMES)


@pytest.mark.parametrize(
    "damage", [b"", b"binary of k8s.io/kubernetes/cmd/kubeleX\n"], ids=["truncated", "corrupt"]
)
def test_a_damaged_binary_is_found_and_built_again(calls: Path, damage: bytes) -> None:
    folder = build.ensure_binaries(quiet)
    (folder / "kubelet").write_bytes(damage)
    build.ensure_binaries(quiet)
    assert (folder / "kubelet").read_text() == "binary of k8s.io/kubernetes/cmd/kubelet\n"
    assert built(calls)[len(BINARIES) :] == ["k8s.io/kubernetes/cmd/kubelet"]


def test_damage_that_hides_its_traces_is_found_by_the_full_check(calls: Path) -> None:
    folder = build.ensure_binaries(quiet)
    kubelet = folder / "kubelet"
    times = kubelet.stat().st_atime_ns, kubelet.stat().st_mtime_ns
    kubelet.write_bytes(kubelet.read_bytes().replace(b"kubelet", b"kubeleX"))
    os.utime(kubelet, ns=times)
    build.ensure_binaries(quiet, full_check=True)
    assert kubelet.read_text() == "binary of k8s.io/kubernetes/cmd/kubelet\n"


def test_a_failed_build_says_why_and_goes_on_where_it_was(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_FAILS", "5")
    with pytest.raises(ClusterError, match=r"kube-scheduler did not build(?s:.*)no route to the module"):
        build.ensure_binaries(quiet)
    monkeypatch.delenv("STUB_FAILS")
    build.ensure_binaries(quiet)
    assert built(calls)[5:] == [binary.package for binary in BINARIES[4:]]


def test_what_a_killed_build_left_half_written_is_not_taken_for_a_binary(calls: Path) -> None:
    folder = build.ensure_binaries(quiet)
    (folder / "kubelet").unlink()
    (folder / ".kubelet.1.unfinished").write_text("half")
    build.ensure_binaries(quiet)
    assert (folder / "kubelet").read_text() == "binary of k8s.io/kubernetes/cmd/kubelet\n"
    assert not list(folder.glob("*unfinished"))


def test_two_builds_at_once_build_each_binary_once(calls: Path) -> None:
    builders = [threading.Thread(target=build.ensure_binaries, args=(quiet,)) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert sorted(built(calls)) == sorted(binary.package for binary in BINARIES)


def test_another_version_takes_over_what_did_not_change(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build.ensure_binaries(quiet)
    monkeypatch.setattr(build, "cache_key", lambda _machine: "another")
    folder = build.ensure_binaries(quiet)
    assert folder.name == "another"
    assert (folder / "kubelet").read_text() == "binary of k8s.io/kubernetes/cmd/kubelet\n"
    assert len(built(calls)) == len(BINARIES)


def test_sources_are_verified_and_not_resolved_anew(calls: Path) -> None:
    probe = Path(calls.parent / "go")
    probe.write_text(STUB.replace('echo "$@"', 'echo "$GOFLAGS $GOTOOLCHAIN $CGO_ENABLED"'))
    build.ensure_binaries(quiet)
    (told,) = set(calls.read_text().splitlines())
    assert {"-mod=readonly", "local", "0"} <= set(told.split())


def test_every_module_is_pinned_with_checksums() -> None:
    for module in {binary.module for binary in BINARIES} - {"own"}:
        text = (MODULES / module / "go.mod").read_text()
        wanted = re.search(r"^go (\d+)\.(\d+)\.0$", text, flags=re.MULTILINE)
        assert wanted
        assert (int(wanted[1]), int(wanted[2])) <= GO_NEEDED
        assert "\ntoolchain " not in text
        assert (MODULES / module / "go.sum").stat().st_size > 0


def test_programs_are_told_the_version_that_is_pinned() -> None:
    assert f"k8s.io/kubernetes v{KUBERNETES_VERSION}" in (MODULES / "kubernetes" / "go.mod").read_text()
    assert f"helm.sh/helm/v3 v{HELM_VERSION}" in (MODULES / "helm" / "go.mod").read_text()


def test_a_binary_depends_on_its_own_module_alone(tmp_path: Path) -> None:
    kubelet, helm = (
        next(binary for binary in BINARIES if binary.name == name) for name in ("kubelet", "helm")
    )
    for module in (kubelet.module, helm.module):
        (tmp_path / module).mkdir()
        (tmp_path / module / "go.mod").write_text("one")
    before = binary_key(kubelet, "x86_64", tmp_path), binary_key(helm, "x86_64", tmp_path)
    (tmp_path / helm.module / "go.mod").write_text("two")
    after = binary_key(kubelet, "x86_64", tmp_path), binary_key(helm, "x86_64", tmp_path)
    assert before[0] == after[0]
    assert before[1] != after[1]
    assert binary_key(kubelet, "aarch64", tmp_path) != after[0]


def test_the_command_line_runs_before_anything_is_installed() -> None:
    """Without site-packages it still parses: it imports nothing but the standard library."""
    command = [sys.executable, "-S", "-m", "tests.cluster.local", "--help"]
    shown = subprocess.run(command, cwd=repository_root(), capture_output=True, text=True, check=True, env={})
    assert "bring a cluster up" in shown.stdout


def test_versions_that_nobody_used_for_two_weeks_go_with_the_next_build(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build.ensure_binaries(quiet)
    kept = {name: first.with_name(name) for name in ("recent", "a cluster runs from it", "unused")}
    for folder in kept.values():
        folder.mkdir()
    for name in ("a cluster runs from it", "unused"):
        os.utime(kept[name], (0, 0))
    monkeypatch.setattr(build, "STATE_ROOT", calls.parent / "state")
    spec = calls.parent / "state" / "3" / "spec.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"binaries": str(kept["a cluster runs from it"])}))

    said: list[str] = []
    build.ensure_binaries(said.append)
    assert all(folder.exists() for folder in kept.values()), "nothing goes where nothing is built"
    (first / "kubelet").unlink()
    build.ensure_binaries(said.append)
    assert [name for name, folder in kept.items() if not folder.exists()] == ["unused"]
    assert f"removed {kept['unused']}, which nobody has used for two weeks" in said
