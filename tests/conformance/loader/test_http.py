"""Weights from an address: whole and verified however the server behaves, or a reason."""

import bz2
import hashlib
import io
import lzma
import zipfile
from pathlib import Path

import pytest

from tests.support.loader import Loader
from tests.support.oci import Entry, gzipped, tar, zstded
from tests.support.origin import Fault, Origin
from tests.support.waiting import wait_until

BODY = bytes(range(256)) * 20_000  # 5 MB


def loader(folder: Path, origin: Origin, *, sha256: str | None = None, path: str = "model.gguf") -> Loader:
    digest = sha256 or hashlib.sha256(BODY).hexdigest()
    return Loader(folder, {"type": "HTTP", "http": {"url": f"{origin.url}/{path}", "sha256": digest}})


@pytest.mark.req("S2-14")
def test_a_file_is_fetched_and_its_digest_is_the_revision(tmp_path: Path) -> None:
    with Origin({"model.gguf": BODY}) as origin:
        one = loader(tmp_path, origin)
        ended = one.run()
    assert ended.status == 0, ended.log
    assert one.files == {"model.gguf": BODY}
    assert ended.said == {
        "result": "Complete",
        "revision": f"sha256:{hashlib.sha256(BODY).hexdigest()}",
        "digest": ended.said["digest"],
        "totalBytes": len(BODY),
        "fetched": True,
    }
    assert one.complete == {
        "revision": ended.said["revision"],
        "digest": ended.said["digest"],
        "totalBytes": len(BODY),
        "files": 1,
    }


def test_a_second_loader_finds_it_complete_and_asks_nobody(tmp_path: Path) -> None:
    with Origin({"model.gguf": BODY}) as origin:
        one = loader(tmp_path, origin)
        first = one.run()
        asked = len(origin.seen)
        second = one.run()
    assert (second.status, second.said) == (0, {**first.said, "fetched": False})
    assert len(origin.seen) == asked


@pytest.mark.parametrize("ranges", [True, False], ids=["with ranges", "without ranges"])
def test_a_connection_that_is_cut_is_taken_up_where_it_ended(tmp_path: Path, ranges: bool) -> None:
    with Origin({"model.gguf": BODY}) as origin:
        origin.ranges = ranges
        origin.faults = [Fault(cut_after=2_000_000), Fault(status=503, headers={"Retry-After": "0"})]
        one = loader(tmp_path, origin)
        ended = one.run()
    assert ended.status == 0, ended.log
    assert one.files == {"model.gguf": BODY}
    assert sum(origin.sent_bytes.values()) == len(BODY) + (0 if ranges else 2_000_000)


def test_headers_of_the_secret_open_the_source_and_are_shown_nowhere(tmp_path: Path) -> None:
    with Origin({"model.gguf": BODY}) as origin:
        origin.wanted_headers = {"X-Api-Key": "k3y-of-the-origin"}
        one = loader(tmp_path, origin)
        one.credentials = {"X-Api-Key": "k3y-of-the-origin"}
        assert one.run().status == 0
        assert "k3y-of-the-origin" not in one.log()
        stranger = loader(tmp_path / "stranger", origin).run()
    assert (stranger.reason, stranger.said["retryable"]) == ("Unauthorized", False)
    assert "answered 401" in stranger.said["message"]


def test_headers_are_not_sent_on_to_another_host(tmp_path: Path) -> None:
    with Origin({"model.gguf": BODY}) as store, Origin() as origin:
        signed = {"Location": f"{store.url}/model.gguf?Signature=5igned"}
        origin.faults = [Fault(times=-1, status=302, headers=signed)]
        one = loader(tmp_path, origin)
        one.credentials = {"X-Api-Key": "k3y-of-the-origin"}
        ended = one.run()
        assert ended.status == 0, ended.log
        assert [each.headers.get("x-api-key") for each in store.seen] == [None]
        store.files.clear()
        ended = loader(tmp_path / "gone", origin).run()
    assert ended.reason == "SourceNotFound"
    assert "5igned" not in ended.log + ended.said["message"]


def test_a_source_that_refuses_is_told_while_it_is_tried(tmp_path: Path) -> None:
    with Origin({"model.gguf": BODY}) as origin:
        origin.faults = [Fault(times=-1, status=503)]
        one = loader(tmp_path, origin)
        one.environment["ROUNDHOUSE_LOADER_PATIENCE_SECONDS"] = "300"
        one.start()
        said = wait_until(lambda: one.progress().get("error"), seconds=60, what="the loader says why")
        assert said == f"{origin.url}/model.gguf answered 503"
        origin.faults = []
        ended = one.wait()
    assert ended.status == 0, ended.log


def test_redirects_have_an_end(tmp_path: Path) -> None:
    with Origin() as origin:
        origin.faults = [Fault(times=-1, status=302, headers={"Location": "/model.gguf"})]
        ended = loader(tmp_path, origin).run()
    assert ended.reason == "SourceUnreachable"
    assert "redirects more than" in ended.said["message"]


@pytest.mark.parametrize("status", [404, 410])
def test_a_file_that_is_not_there_is_told(tmp_path: Path, status: int) -> None:
    with Origin() as origin:
        origin.faults = [Fault(times=-1, status=status)]
        ended = loader(tmp_path, origin).run()
    assert (ended.reason, ended.said["retryable"]) == ("SourceNotFound", False)
    assert f"{origin.url}/model.gguf" in ended.said["message"]


def test_a_wrong_digest_is_told_with_both(tmp_path: Path) -> None:
    with Origin({"model.gguf": BODY}) as origin:
        one = loader(tmp_path, origin, sha256="0" * 64)
        ended = one.run()
    assert (ended.reason, ended.said["retryable"]) == ("DigestMismatch", False)
    assert hashlib.sha256(BODY).hexdigest() in ended.said["message"]
    assert one.files == {}


def zipped(entries: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in entries.items():
            archive.writestr(name, body)
    return out.getvalue()


ENTRIES: dict[str, Entry] = {"model/am.gguf": BODY, "model/conf/a.conf": b"x", "model/run.py": b"import os"}
ARCHIVES = {
    "model.zip": zipped({name: body for name, body in ENTRIES.items() if isinstance(body, bytes)}),
    "model.tar.gz": gzipped(ENTRIES).body,
    "model.tgz": gzipped(ENTRIES).body,
    "model.tar": tar(ENTRIES),
    "model.tar.bz2": bz2.compress(tar(ENTRIES)),
    "model.tar.xz": lzma.compress(tar(ENTRIES)),
    "model.tar.zst": zstded(ENTRIES).body,
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_unpacked(tmp_path: Path, name: str) -> None:
    body = ARCHIVES[name]
    with Origin({name: body}) as origin:
        one = loader(tmp_path, origin, sha256=hashlib.sha256(body).hexdigest(), path=name)
        ended = one.run()
    assert ended.status == 0, ended.log
    assert one.files == {"model/am.gguf": BODY, "model/conf/a.conf": b"x"}
    assert sorted(path.name for path in one.cache.iterdir()) == [
        "complete.json",
        "files",
        "lock",
        "manifest.json",
    ]


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_was_cut_off_before_its_digest_was_made_is_told(tmp_path: Path, name: str) -> None:
    body = ARCHIVES[name][: len(ARCHIVES[name]) * 2 // 3]
    with Origin({name: body}) as origin:
        ended = loader(tmp_path, origin, sha256=hashlib.sha256(body).hexdigest(), path=name).run()
    assert ended.reason == "InvalidSource", ended.log
    assert f"{name!r} came whole, and cannot be unpacked" in ended.said["message"]


@pytest.mark.parametrize("body", [zipped({"../../escaped": b"x"}), b"PK\x03\x04broken", b"no zip"])
def test_an_archive_that_does_harm_or_is_none_is_refused(tmp_path: Path, body: bytes) -> None:
    with Origin({"model.zip": body}) as origin:
        one = loader(tmp_path, origin, sha256=hashlib.sha256(body).hexdigest(), path="model.zip")
        ended = one.run()
    assert ended.reason == "InvalidSource"
    assert not list(tmp_path.rglob("escaped"))


def test_the_file_is_named_after_the_last_part_of_its_address(tmp_path: Path) -> None:
    with Origin({"a b/my model.gguf": BODY}) as origin:
        one = loader(tmp_path, origin, path="a%20b/my%20model.gguf?version=2#top")
        assert one.run().status == 0
    assert list(one.files) == ["my model.gguf"]


def test_a_pickle_is_refused_before_a_byte_is_fetched(tmp_path: Path) -> None:
    with Origin({"model.pt": BODY}) as origin:
        ended = loader(tmp_path, origin, path="model.pt").run()
    assert (ended.reason, origin.seen) == ("UnsafeFormat", [])


@pytest.mark.parametrize("name", ["Host", "Range", "not a header"])
def test_a_key_that_is_no_header_is_told(tmp_path: Path, name: str) -> None:
    with Origin({"model.gguf": BODY}) as origin:
        one = loader(tmp_path, origin)
        one.credentials = {name: "value-of-it"}
        ended = one.run()
    assert ended.reason == "InvalidSource"
    assert repr(name) in ended.said["message"]
    assert "value-of-it" not in ended.said["message"]
