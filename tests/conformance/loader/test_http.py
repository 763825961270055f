"""Weights from an address: whole and verified however the server behaves, or a reason."""

import hashlib
from pathlib import Path

import pytest

from tests.support.loader import Loader
from tests.support.origin import Fault, Origin

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
    assert (second.status, second.said) == (0, first.said)
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
