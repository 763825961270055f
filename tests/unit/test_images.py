"""When an image is built anew, what it is built on, and how a build reaches the package index."""

import json
import os
import shutil
import time
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.images import __main__ as command_line
from tests.images.base import plain_http
from tests.images.build import FOLDERS_KEPT, KEPT_SECONDS, _drop_old_folders
from tests.images.definitions import (
    IMAGES,
    ROOT,
    TORCH,
    Image,
    argument_default,
    build_key,
    copied_paths,
    snapshot,
)
from tests.images.host import certificates, index_settings
from tests.images.pins import PINS, group_pins
from tests.images.sizes import MOST_MB, MOST_MB_ON_GPUS
from tests.images.store import Store

CONTAINERFILE = """
# A comment that says COPY nothing here
ARG BASE=docker.io/library/python:3.11@sha256:1
FROM ${BASE} AS build
COPY one.txt folder/ ./
COPY --from=other /uv /uv
RUN true && \\
    COPY is not an instruction here
FROM ${BASE}
COPY \\
    two.txt ./
"""
SAMPLE = Image("sample", "Containerfile")
UPPER = Image("upper", "upper.Containerfile", on=SAMPLE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "folder" / "__pycache__").mkdir(parents=True)
    for name in ("one.txt", "two.txt", "unused.txt", "folder/deep.txt", "folder/__pycache__/deep.pyc"):
        (tmp_path / name).write_text(name)
    (tmp_path / "Containerfile").write_text(CONTAINERFILE)
    (tmp_path / "upper.Containerfile").write_text("FROM ${SAMPLE}\nCOPY unused.txt ./\n")
    return tmp_path


def test_what_is_copied_is_read_from_the_containerfile() -> None:
    assert copied_paths(CONTAINERFILE) == ["one.txt", "folder/", "two.txt"]
    assert argument_default(CONTAINERFILE, "BASE") == "docker.io/library/python:3.11@sha256:1"
    with pytest.raises(ValueError, match="no ARG 'UV'"):
        argument_default(CONTAINERFILE, "UV")


@pytest.mark.parametrize("changed", ["one.txt", "two.txt", "folder/deep.txt", "Containerfile"])
def test_an_image_is_built_anew_when_something_in_it_changes(checkout: Path, changed: str) -> None:
    before = build_key(SAMPLE, {"BASE": "1"}, checkout)
    with (checkout / changed).open("a") as file:
        file.write("# more\n")
    assert build_key(SAMPLE, {"BASE": "1"}, checkout) != before


def test_an_image_is_built_anew_when_what_it_starts_from_changes(checkout: Path) -> None:
    lower, upper = build_key(SAMPLE, {}, checkout), build_key(UPPER, {}, checkout)
    (checkout / "unused.txt").write_text("of the upper one alone")
    assert build_key(SAMPLE, {}, checkout) == lower
    assert (changed := build_key(UPPER, {}, checkout)) != upper
    (checkout / "two.txt").write_text("of the lower one")
    assert build_key(UPPER, {}, checkout) != changed
    snapshot(UPPER, checkout / "copy", checkout)
    assert build_key(UPPER, {}, checkout / "copy") == build_key(UPPER, {}, checkout)


def test_the_layer_with_torch_is_what_the_lock_says() -> None:
    pins = group_pins("torch")
    assert PINS["torch"].read_text() == pins, "run `make gen`"
    names = [line.partition("==")[0] for line in pins.splitlines() if "==" in line]
    assert {"torch", "numpy"} <= set(names)
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "triton", "setuptools"))]


def test_for_gpus_comes_what_torch_asks_for_beyond_what_it_has_on_processors() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    [told] = [one for one in project["tool"]["uv"]["dependency-metadata"] if one["name"] == "torch"]
    ours = [*told["requires-dist"], *project["dependency-groups"]["cuda"]]
    asked = [Requirement(line) for line in requires("torch") or () if "extra ==" not in line]
    # The first NeMo would bring onto processors, and the second is of no use without a C compiler.
    asked = [one for one in asked if one.name not in {"cuda-bindings", "triton"}]
    assert _plain(map(Requirement, ours)) == _plain(asked)
    pinned = {line.partition("==")[0] for line in PINS["cuda"].read_text().splitlines() if "==" in line}
    assert {"nvidia-cublas", "nvidia-cudnn-cu13"} <= pinned
    assert PINS["cuda"].read_text() == group_pins("cuda"), "run `make gen`"


def _plain(requirements: Iterable[Requirement]) -> list[tuple[str, list[str], str]]:
    """Without what says on which platforms."""
    return sorted((one.name, sorted(one.extras), str(one.specifier)) for one in requirements)


@pytest.mark.parametrize("changed", ["unused.txt", "folder/__pycache__/deep.pyc"])
def test_an_image_stays_when_only_something_else_changes(checkout: Path, changed: str) -> None:
    before = build_key(SAMPLE, {"BASE": "1"}, checkout)
    (checkout / changed).write_text("other")
    assert build_key(SAMPLE, {"BASE": "1"}, checkout) == before


def test_a_build_works_on_the_sources_that_its_key_was_taken_of(checkout: Path) -> None:
    copy = checkout / "copy"
    snapshot(SAMPLE, copy, checkout)
    taken = build_key(SAMPLE, {}, copy)
    assert taken == build_key(SAMPLE, {}, checkout)
    (checkout / "one.txt").write_text("edited while it is built")
    assert build_key(SAMPLE, {}, copy) == taken
    assert sorted(path.name for path in copy.rglob("*") if path.is_file()) == [
        *("Containerfile", "deep.txt", "one.txt", "two.txt")
    ]


def test_of_old_images_go_all_files_or_none_that_a_build_would_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that lost some of its files would pass for an image that is built."""
    store = Store(tmp_path / "store")
    (store.folder / "tmp").mkdir(parents=True)
    folders = [tmp_path / f"sample-1.0-{age:012}" for age in range(FOLDERS_KEPT + 2)]
    for age, folder in enumerate(folders):
        folder.mkdir()
        (folder / "index.json").write_text("{}")
        (folder / "oci-layout").write_text("{}")
        made = time.time() - (KEPT_SECONDS + 60) * age
        os.utime(folder, (made, made))
    remove = shutil.rmtree

    def killed(folder: str, *_: object, **__: object) -> None:
        next(Path(folder).rglob("index.json")).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        _drop_old_folders(store, folders[0])
    left = sorted(tmp_path.glob("sample-*"))
    assert left == [*folders[:FOLDERS_KEPT], folders[-1]], "the first of the old ones is gone by its name"
    assert all((folder / "index.json").exists() for folder in left)
    monkeypatch.setattr(shutil, "rmtree", remove)
    _drop_old_folders(store, folders[0])
    assert sorted(tmp_path.glob("sample-*")) == folders[:FOLDERS_KEPT]


def test_another_base_or_another_mode_is_another_image(checkout: Path) -> None:
    before = build_key(SAMPLE, {"BASE": "1"}, checkout)
    assert build_key(SAMPLE, {"BASE": "2"}, checkout) != before
    (checkout / "one.txt").chmod(0o755)
    assert build_key(SAMPLE, {"BASE": "1"}, checkout) != before


@pytest.mark.parametrize("image", [*IMAGES, TORCH], ids=lambda image: image.name)
def test_each_containerfile_is_pinned_and_runs_without_rights(image: Image) -> None:
    text = (ROOT / image.containerfile).read_text()
    first = (ROOT / IMAGES[0].containerfile).read_text()
    for argument in ("UV",) if image.on else ("BASE", "UV"):
        assert "@sha256:" in argument_default(text, argument)
        assert argument_default(text, argument) == argument_default(first, argument), "layers are shared"
    final = text.rpartition("FROM ")[2].splitlines()
    assert final[0] == f"${{{image.on.name.upper() if image.on else 'BASE'}}}"
    assert "USER 65532:65532" in final or image is TORCH, "that one only lends its layer"
    assert not [line for line in final if line.startswith("RUN")], "nothing is made in the final stage"
    assert all((ROOT / path).exists() for path in copied_paths(text))


@pytest.mark.parametrize(
    ("name", "entrypoint"),
    [
        ("operator", '["roundhouse", "operator"]'),
        ("gateway", '["roundhouse-gateway"]'),
        ("pocketsphinx", '["python", "-m", "roundhouse_pocketsphinx"]'),
        ("faster-whisper", '["python", "-m", "roundhouse_faster_whisper"]'),
        ("llama-cpp", '["python", "-m", "roundhouse_llama_cpp"]'),
        ("transformers", '["python", "-m", "roundhouse_transformers"]'),
        ("musicgen", '["python", "-m", "roundhouse_musicgen"]'),
    ],
)
def test_each_image_starts_its_program(name: str, entrypoint: str) -> None:
    image = next(each for each in IMAGES if each.name == name)
    assert f"ENTRYPOINT {entrypoint}" in (ROOT / image.containerfile).read_text().splitlines()


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_each_containerfile_has_the_whole_workspace(image: Image) -> None:
    """The lock can be read only where every member's project file is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = copied_paths((ROOT / image.containerfile).read_text())
    members = project["tool"]["uv"]["workspace"]["members"]
    assert [each for each in members if not {each, f"{each}/pyproject.toml"} & set(copied)] == []


@pytest.mark.parametrize(("megabytes", "ends"), [(1600, None), (1800, "faster-whisper has 1800 MB of 1700")])
def test_a_build_for_gpus_that_is_too_large_fails_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, megabytes: int, ends: str | None
) -> None:
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "blobs/sha256/1").write_text(json.dumps({"layers": [{"size": megabytes * 10**6}]}))
    listed = {"digest": "sha256:1", "annotations": {"io.containerd.image.name": "faster-whisper:1"}}
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [listed]}))
    monkeypatch.setattr(command_line, "build_images", lambda *_, **__: {"faster-whisper": tmp_path})
    with pytest.raises(SystemExit, match=ends) if ends else nullcontext():
        command_line.main(["build", "--gpu", "faster-whisper"])


def test_each_image_has_a_size_that_it_may_have() -> None:
    assert set(MOST_MB) == {image.name for image in IMAGES}
    assert set(MOST_MB_ON_GPUS) == {image.name for image in IMAGES if image.on_gpus}


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    wanted: dict[str, object]
    environment: Mapping[str, str] | None = None
    files: Mapping[str, str] | None = None


PIP = "[global]\nindex-url = https://pip.example/simple\ntrusted-host = pip.example\n"
UV = 'index-strategy = "first-index"\nnative-tls = true\n[[index]]\nname = "own"\nurl = "https://uv.example/simple"\n'
INDEXES = [
    Case("PyPI where nothing is set", {}),
    Case("uv's environment", {"index-url": "https://a.example"}, {"UV_DEFAULT_INDEX": "https://a.example"}),
    Case("pip's environment", {"index-url": "https://b.example"}, {"PIP_INDEX_URL": "https://b.example"}),
    Case(
        "further indexes",
        {"extra-index-url": ["https://c.example", "https://d.example"]},
        {"PIP_EXTRA_INDEX_URL": "https://c.example https://d.example"},
    ),
    Case(
        "pip's file",
        {"index-url": "https://pip.example/simple", "allow-insecure-host": ["pip.example"]},
        files={".config/pip/pip.conf": PIP},
    ),
    Case(
        "uv's file before pip's, and of it only what names an index",
        {"index-strategy": "first-index", "index": [{"name": "own", "url": "https://uv.example/simple"}]},
        files={".config/uv/uv.toml": UV, ".config/pip/pip.conf": PIP},
    ),
    Case(
        "the environment before a file",
        {"index-url": "https://a.example", "allow-insecure-host": ["pip.example"]},
        {"UV_INDEX_URL": "https://a.example"},
        {".pip/pip.conf": PIP},
    ),
]


@pytest.mark.parametrize("case", INDEXES, ids=lambda case: case.id)
def test_a_build_uses_the_package_index_of_the_machine(case: Case, tmp_path: Path) -> None:
    for name, text in (case.files or {}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert tomllib.loads(index_settings(case.environment or {}, tmp_path)) == case.wanted


def test_a_build_trusts_what_the_machine_trusts(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("")
    assert certificates({"SSL_CERT_FILE": str(bundle)}) == bundle
    assert certificates({"SSL_CERT_FILE": "/nowhere", "PIP_CERT": str(bundle)}) == bundle


@pytest.mark.parametrize(
    ("reference", "plain"),
    [
        ("127.0.0.1:5000/roundhouse/operator:0.1.0", True),
        ("localhost:5000/operator:1", True),
        ("registry.example/roundhouse/operator:1", False),
        ("registry.example:5000/operator:1", False),
    ],
)
def test_only_a_registry_on_this_machine_may_lack_a_certificate(reference: str, plain: bool) -> None:
    assert bool(plain_http(reference)) is plain
