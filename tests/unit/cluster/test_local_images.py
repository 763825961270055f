"""Image archives: packed from one binary, and read again."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.cluster.local.errors import ClusterError
from tests.cluster.local.images import inspect, pack, stream


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def packed(folder: Path, content: bytes) -> Path:
    (folder / "program").write_bytes(content)
    with (folder / "image.tar").open("wb") as file:
        pack("localhost/a:1", folder / "program", file)
    return folder / "image.tar"


def test_a_packed_image_is_called_as_told_and_runs_its_binary(tmp_path: Path) -> None:
    path = packed(tmp_path, b"machine code")
    assert inspect(path).names == ("localhost/a:1",)
    with tarfile.open(path) as tar:
        config = tar.extractfile("config.json")
        layer = tar.extractfile("layer.tar")
        assert config
        assert layer
        assert json.loads(config.read())["config"]["Entrypoint"] == ["/program"]
        with tarfile.open(fileobj=io.BytesIO(layer.read())) as files:
            assert files.getmember("program").mode == 0o755


def test_other_content_under_the_same_name_is_told_apart(tmp_path: Path) -> None:
    first = inspect(packed(tmp_path, b"one")).digest
    assert inspect(packed(tmp_path, b"one")).digest == first
    assert inspect(packed(tmp_path, b"two")).digest != first


def test_an_oci_archive_is_read_by_its_index(tmp_path: Path) -> None:
    annotations = {"org.opencontainers.image.ref.name": "localhost/b:2"}
    index = {"manifests": [{"digest": "sha256:00", "annotations": annotations}]}
    assert inspect(write_tar(tmp_path / "oci.tar", {"index.json": json.dumps(index).encode()})).names == (
        "localhost/b:2",
    )


def test_a_folder_is_read_as_its_archive_would_be_and_streamed_without_what_is_there(tmp_path: Path) -> None:
    annotations = {"io.containerd.image.name": "localhost/c:3"}
    index = {"manifests": [{"digest": "sha256:00", "annotations": annotations}]}
    blobs = tmp_path / "image/blobs/sha256"
    blobs.mkdir(parents=True)
    (blobs.parents[1] / "index.json").write_text(json.dumps(index))
    for name in ("aa", "bb"):
        (blobs / name).write_bytes(name.encode())
    found = {}
    for what, there in {"whole": frozenset[str](), "rest": frozenset({"sha256:aa"})}.items():
        path = tmp_path / f"{what}.tar"
        with path.open("wb") as out:
            stream(tmp_path / "image", out, there)
        assert inspect(path) == inspect(tmp_path / "image")
        with tarfile.open(path) as tar:
            found[what] = sorted(tar.getnames())
    assert found["rest"] == ["blobs/sha256/bb", "index.json"]
    assert found["whole"] == ["blobs/sha256/aa", *found["rest"]]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"readme": b"hello"}, "neither manifest.json"),
        ({"manifest.json": b"{"}, "cannot be read as an image archive"),
    ],
)
def test_what_is_no_image_archive_is_named(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        inspect(write_tar(tmp_path / "no.tar", members))


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"missing\.tar"):
        inspect(tmp_path / "missing.tar")
