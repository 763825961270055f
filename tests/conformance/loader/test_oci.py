"""Weights from container registries: images of real tools, artifacts, logins, and images made to do harm."""

import json
from pathlib import Path

import pytest

from tests.images.registry import Registry
from tests.images.store import Store
from tests.support.loader import Ended, Loader
from tests.support.oci import (
    Entry,
    HardLink,
    ImageRegistry,
    Layer,
    Symlink,
    docker_config,
    gzipped,
    tar,
    zstded,
)

WEIGHTS = bytes(range(256)) * 4_000
LOGIN = ("robot", "pa55word-of-the-robot")


def loader(folder: Path, image: str, *, config: str | None = None, **oci: str) -> Loader:
    source = {"type": "OCI", "oci": {"image": image, **oci}}
    return Loader(folder, source, credentials={".dockerconfigjson": config} if config else {})


def pulled(folder: Path, *layers: Layer, path: str = "", **source: object) -> tuple[Ended, Loader]:
    with ImageRegistry() as registry:
        registry.put("models/tiny", "1", layers)
        one = loader(folder, f"{registry.address}/models/tiny:1", path=path)
        one.source = {**one.source, **source}
        return one.run(), one


@pytest.mark.req("S2-14")
def test_a_directory_of_an_image_becomes_the_weights(tmp_path: Path) -> None:
    with ImageRegistry() as registry:
        digest = registry.put(
            "models/tiny",
            "1",
            [
                gzipped({"etc/": None, "etc/passwd": b"root", "models/a/model.safetensors": b"old"}),
                zstded({"./models/a/model.safetensors": WEIGHTS, "./models/a/config.json": b"{}"}),
            ],
        )
        one = loader(tmp_path, f"{registry.address}/models/tiny:1", path="/models/a/")
        ended = one.run()
        assert {each.headers.get("authorization") for each in registry.store.seen} == {None}
    assert ended.status == 0, ended.log
    assert ended.said["revision"] == digest
    assert one.files == {"model.safetensors": WEIGHTS, "config.json": b"{}"}
    assert sorted(path.name for path in one.cache.iterdir()) == [
        "complete.json",
        "files",
        "lock",
        "manifest.json",
    ]


def test_an_image_that_buildah_made_is_pulled(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.recover()
    (tmp_path / "model.gguf").write_bytes(WEIGHTS)
    with Registry() as registry:
        image = f"{registry.address}/tiny:1"
        container = store.buildah("from", "scratch", step="test")
        store.buildah("copy", container, str(tmp_path / "model.gguf"), "/models/model.gguf", step="test")
        store.buildah("commit", "--quiet", container, image, step="test")
        store.buildah("push", "--tls-verify=false", image, step="test")
        one = loader(tmp_path, f"{image.removesuffix(':1')}@{registry.tags['tiny:1']}")
        ended = one.run()
    assert ended.status == 0, ended.log
    assert one.files == {"models/model.gguf": WEIGHTS}


def test_files_of_an_artifact_are_the_weights(tmp_path: Path) -> None:
    title = "org.opencontainers.image.title"
    ended, one = pulled(
        tmp_path,
        # `oras push` calls a plain file a tar.
        Layer(WEIGHTS, annotations={title: "model.gguf"}),
        Layer(b"{}", "application/json", {"org.cncf.model.filepath": "sub/config.json"}),
    )
    assert ended.status == 0, ended.log
    assert one.files == {"model.gguf": WEIGHTS, "sub/config.json": b"{}"}


def test_of_an_index_the_image_for_this_machine_is_taken(tmp_path: Path) -> None:
    with ImageRegistry() as registry:
        ours = registry.put("tiny", "ours", [gzipped({"model.gguf": WEIGHTS})])
        theirs = registry.put("tiny", "theirs", [gzipped({"model.gguf": b"other"})])
        platforms = {
            "linux/s390x": theirs,
            "linux/amd64": ours,
            "linux/arm64": ours,
            "unknown/unknown": theirs,
        }
        index = registry.put_index("tiny", "1", platforms)
        registry.put_index("tiny", "elsewhere", {"linux/s390x": theirs, "windows/amd64": theirs})
        one = loader(tmp_path, f"{registry.address}/tiny:1")
        assert one.run().said["revision"] == index
        assert one.files == {"model.gguf": WEIGHTS}
        other = loader(tmp_path / "other", f"{registry.address}/tiny:elsewhere").run()
    assert other.reason == "SourceNotFound"
    assert "linux/s390x, windows/amd64" in other.said["message"]


def test_whiteouts_take_away_what_lower_layers_hold(tmp_path: Path) -> None:
    ended, one = pulled(
        tmp_path,
        gzipped({"m/a.gguf": b"1", "m/b.gguf": b"2", "old/c.gguf": b"3", "old/sub/d.gguf": b"4", "e": b"5"}),
        # An opaque mark hides the lower layers alone, wherever it stands among its layer's entries.
        gzipped(
            {"m/.wh.a.gguf": b"", "old/new.gguf": b"6", "old/.wh..wh..opq": b"", ".wh.e": b"", "f": b"7"}
        ),
    )
    assert ended.status == 0, ended.log
    assert one.files == {"m/b.gguf": b"2", "old/new.gguf": b"6", "f": b"7"}


def test_links_inside_of_the_weights_are_kept(tmp_path: Path) -> None:
    ended, one = pulled(
        tmp_path,
        gzipped(
            {
                "m/blobs/0": WEIGHTS,
                "m/snapshots/1/model.gguf": Symlink("../../blobs/0"),
                "m/absolute.gguf": Symlink("/m/blobs/0"),
                "m/hard.gguf": HardLink("m/blobs/0"),
                "m/nowhere": Symlink("/proc/mounts"),
            }
        ),
        path="m",
    )
    assert ended.status == 0, ended.log
    names = ("blobs/0", "snapshots/1/model.gguf", "absolute.gguf", "hard.gguf")
    assert one.files == dict.fromkeys(names, WEIGHTS)
    assert (one.cache / "files/absolute.gguf").readlink() == Path("blobs/0")
    assert one.run().said == {**ended.said, "fetched": False}


HARMFUL: dict[str, dict[str, Entry]] = {
    "a name that climbs": {"../../escaped": b"x"},
    "an absolute name": {"/tmp/escaped": b"x"},  # noqa: S108 - the loader must not write there
    "a name through a link to the host": {"out": Symlink("/tmp"), "out/../../escaped": b"x"},  # noqa: S108
    "a hard link to the host": {"m": HardLink("/etc/passwd")},
    "links in a circle": {"a": Symlink("b"), "b": Symlink("a"), "a/x": b"x"},
}


@pytest.mark.parametrize("entries", HARMFUL.values(), ids=HARMFUL.keys())
def test_an_image_cannot_write_or_read_outside_of_the_cache(
    tmp_path: Path, entries: dict[str, Entry]
) -> None:
    ended, one = pulled(tmp_path, gzipped(entries))
    assert ended.reason == "InvalidSource", ended.log
    assert one.files == {}
    assert not list(tmp_path.rglob("escaped"))


def test_a_file_below_a_link_to_the_host_stays_in_the_weights(tmp_path: Path) -> None:
    ended, one = pulled(tmp_path, gzipped({"out": Symlink("/tmp/victim"), "out/model.gguf": WEIGHTS}))  # noqa: S108
    assert ended.status == 0, ended.log
    assert one.files["tmp/victim/model.gguf"] == WEIGHTS


def test_a_link_out_of_the_path_is_told(tmp_path: Path) -> None:
    ended, _ = pulled(
        tmp_path, gzipped({"blobs/0": WEIGHTS, "m/model.gguf": Symlink("../blobs/0")}), path="m"
    )
    assert ended.reason == "InvalidSource"
    assert "widen `path`" in ended.said["message"]


@pytest.mark.parametrize("path", ["nowhere", "m/a.gguf/below"])
def test_a_path_that_the_image_has_not_is_told(tmp_path: Path, path: str) -> None:
    ended, _ = pulled(tmp_path, gzipped({"m/a.gguf": b"1"}), path=path)
    assert ended.reason == "SourceNotFound"
    assert repr(path) in ended.said["message"]


def test_a_layer_that_is_no_archive_is_told(tmp_path: Path) -> None:
    ended, _ = pulled(tmp_path, Layer(b"\x1f\x8bno gzip at all"))
    assert ended.reason == "InvalidSource"
    assert "cannot be unpacked" in ended.said["message"]


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_a_login_is_used_and_shown_nowhere(tmp_path: Path, scheme: str) -> None:
    with ImageRegistry(login=LOGIN, scheme=scheme) as registry:  # type: ignore[arg-type]
        registry.put("private/tiny", "1", [gzipped({"model.gguf": WEIGHTS})])
        registry.token_lives = 1
        config = docker_config(registry.address, LOGIN)
        one = loader(tmp_path, f"{registry.address}/private/tiny:1", config=config)
        ended = one.run()
        refused = loader(tmp_path / "other", f"{registry.address}/private/tiny:1").run()
        wrong = docker_config(registry.address, ("robot", "wr0ng-password"))
        refused_too = loader(tmp_path / "third", f"{registry.address}/private/tiny:1", config=wrong).run()
    assert ended.status == 0, ended.log
    assert one.files == {"model.gguf": WEIGHTS}
    for each in (refused, refused_too):
        assert (each.reason, each.said["retryable"]) == ("Unauthorized", False)
        assert "`pullSecretRef`" in each.said["message"]
        shown = each.log + json.dumps(each.said)
        assert not [secret for secret in (LOGIN[1], "wr0ng-password", "token-0") if secret in shown]


def test_an_image_that_is_not_there_is_told(tmp_path: Path) -> None:
    with ImageRegistry() as registry:
        ended = loader(tmp_path, f"{registry.address}/models/none:1").run()
    assert ended.reason == "SourceNotFound"


def test_a_layer_of_another_digest_is_refused(tmp_path: Path) -> None:
    with ImageRegistry() as registry:
        registry.put("tiny", "1", [Layer(tar({"model.gguf": WEIGHTS}))])
        [name] = registry.store.files
        body = registry.store.files[name]
        registry.store.files[name] = body[:-1] + b"\x01"
        ended = loader(tmp_path, f"{registry.address}/tiny:1").run()
    assert ended.reason == "DigestMismatch"


def test_a_manifest_of_another_digest_is_refused(tmp_path: Path) -> None:
    with ImageRegistry() as registry:
        digest = registry.put("tiny", "1", [gzipped({"model.gguf": WEIGHTS})])
        other = registry.put("tiny", "2", [gzipped({"model.gguf": b"other"})])
        registry.stored[f"tiny:{digest}"] = registry.stored[f"tiny:{other}"]
        ended = loader(tmp_path, f"{registry.address}/tiny@{digest}").run()
    assert ended.reason == "DigestMismatch"


def test_pickles_inside_of_an_image_are_refused(tmp_path: Path) -> None:
    ended, one = pulled(tmp_path, gzipped({"pytorch_model.bin": WEIGHTS}))
    assert (ended.reason, one.files) == ("UnsafeFormat", {})
    ended, one = pulled(tmp_path / "two", gzipped({"pytorch_model.bin": WEIGHTS}), allow=["UnsafeFormats"])
    assert (ended.status, one.files) == (0, {"pytorch_model.bin": WEIGHTS})
