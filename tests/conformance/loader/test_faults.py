"""What happens on the way: killed, twice at once, no room, an untruthful source, an end that is asked for."""

import hashlib
import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import Hub
from tests.support.loader import Loader
from tests.support.oci import gzipped
from tests.support.origin import Fault, Origin
from tests.support.waiting import wait_until

MIB = 1 << 20
BODY = bytes(range(256)) * 32_768  # 8 MiB
SHA256 = hashlib.sha256(BODY).hexdigest()
REPO = "acme/tiny-model"
SHARDS = {f"model-{n}.safetensors": bytes([n]) * (4 * MIB) for n in range(4)}
SMALL_DISK = 'mount -t tmpfs -o size="$0" none "$1" && shift && exec "$@"'


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin({"model.gguf": BODY}) as origin:
        yield origin


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.commit(REPO, SHARDS)
        yield hub


def from_origin(folder: Path, origin: Origin, sha256: str = SHA256, **more: str) -> Loader:
    source = {"type": "HTTP", "http": {"url": f"{origin.url}/model.gguf", "sha256": sha256}}
    return Loader(folder, source, more)


def from_hub(folder: Path, hub: Hub, **more: str) -> Loader:
    source = {"type": "HuggingFace", "huggingFace": {"repo": REPO}}
    return Loader(folder, source, {"HF_ENDPOINT": hub.url, **more})


def fetched(one: Loader) -> int:
    return sum(path.stat().st_size for path in one.folder.rglob("*") if path.is_file())


def on_small_disk(one: Loader, size: str) -> Loader:
    """The loader with a cache of that size, in a mount namespace of its own."""
    (one.folder / "cache").mkdir(parents=True)
    one.prefix = ("unshare", "--mount", "sh", "-c", SMALL_DISK, size, str(one.folder / "cache"))
    return one


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to end"])
def test_a_loader_that_ends_in_the_midst_is_gone_on_from(
    hub: Hub, tmp_path: Path, number: signal.Signals
) -> None:
    slow = [Fault(times=-1, bytes_per_second=MIB)]
    hub.cdn.faults = slow
    one = from_hub(tmp_path, hub, ROUNDHOUSE_LOADER_PARALLELISM="2").start()
    wait_until(lambda: fetched(one) > 3 * MIB, seconds=60, what="some megabytes are there", every=0.05)
    status = one.kill(number)
    assert status == (-9 if number is signal.SIGKILL else 128 + 15)
    assert not (one.cache / "complete.json").exists()
    before = hub.downloaded_bytes
    hub.cdn.faults = []
    ended = one.run()
    assert ended.status == 0, ended.log
    assert one.files == SHARDS
    # What was written is not asked for again; what was under way between both is.
    assert hub.downloaded_bytes < sum(map(len, SHARDS.values())) + MIB
    assert hub.downloaded_bytes - before < sum(map(len, SHARDS.values())) - 2 * MIB


def test_files_that_are_complete_are_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    last = hashlib.sha256(SHARDS["model-3.safetensors"]).hexdigest()
    hub.cdn.faults = [Fault(f"/{last}", times=-1, status=503)]
    one = from_hub(tmp_path, hub)
    assert one.run().reason == "SourceUnreachable"
    hub.cdn.faults, hub.cdn.seen[:] = [], []
    assert one.run().status == 0
    assert [each.path for each in hub.cdn.seen] == [f"/{last}"]


def test_a_branch_that_moved_meanwhile_brings_only_what_changed(hub: Hub, tmp_path: Path) -> None:
    last = hashlib.sha256(SHARDS["model-3.safetensors"]).hexdigest()
    hub.cdn.faults = [Fault(f"/{last}", times=-1, status=503)]
    one = from_hub(tmp_path, hub)
    assert one.run().reason == "SourceUnreachable"
    moved = {**SHARDS, "model-1.safetensors": bytes([9]) * (4 * MIB)}
    del moved["model-0.safetensors"]
    commit = hub.commit(REPO, moved)
    hub.cdn.faults, hub.cdn.seen[:] = [], []
    ended = one.run()
    assert (ended.said["revision"], one.files) == (commit, moved)
    assert len(hub.cdn.seen) == 2


def test_of_two_loaders_one_fetches_and_the_other_waits(hub: Hub, tmp_path: Path) -> None:
    slow = Fault(times=-1, bytes_per_second=MIB // 4)
    hub.cdn.faults = [slow]
    first, second = from_hub(tmp_path, hub).start(), from_hub(tmp_path, hub)
    second.name = "second"
    wait_until(lambda: hub.cdn.seen, seconds=60, what="the first fetches", every=0.05)
    second.start()
    wait_until(lambda: second.progress()["state"] == "Waiting", seconds=60, what="the second waits")
    slow.bytes_per_second = None
    one, other = first.wait(), second.wait()
    assert (one.status, other.status) == (0, 0), one.log + other.log
    assert other.said == {**one.said, "fetched": False}
    assert hub.downloaded_bytes == sum(map(len, SHARDS.values()))


def test_a_waiting_loader_takes_over_when_the_first_is_killed(hub: Hub, tmp_path: Path) -> None:
    hub.cdn.faults = [Fault(times=4, bytes_per_second=MIB // 2)]
    first, second = from_hub(tmp_path, hub).start(), from_hub(tmp_path, hub)
    second.name = "second"
    wait_until(lambda: fetched(first) > 2 * MIB, seconds=60, what="some megabytes are there", every=0.05)
    second.start()
    wait_until(lambda: second.progress()["state"] == "Waiting", seconds=60, what="the second waits")
    first.kill()
    assert second.wait().status == 0
    assert second.files == SHARDS


def test_a_cache_without_room_is_told_before_a_byte_is_fetched(hub: Hub, tmp_path: Path) -> None:
    ended = on_small_disk(from_hub(tmp_path, hub), "8m").run()
    assert (ended.reason, ended.said["retryable"]) == ("OutOfSpace", True)
    assert "16777216 more bytes are needed" in ended.said["message"]
    assert hub.cdn.seen == []


def test_a_disk_that_fills_up_on_the_way_is_told(origin: Origin, tmp_path: Path) -> None:
    origin.faults = [Fault(times=-1, bytes_per_second=2 * MIB)]
    one = on_small_disk(from_origin(tmp_path, origin), "10m")
    full = f"dd if=/dev/zero of={one.folder}/cache/other bs=1M count=10 status=none"
    begun = f'[ "$(find {one.cache} -size +512k)" ]'
    script = f"(until {begun}; do sleep 0.05; done; {full}) 2>/dev/null & shift"
    one.prefix = (*one.prefix[:4], SMALL_DISK.replace("&& shift", f"&& {{ {script}; }}"), *one.prefix[5:])
    ended = one.run()
    assert (ended.reason, ended.said["retryable"]) == ("OutOfSpace", True), ended.log
    needed, free = map(int, re.findall(r"(\d+) (?:more bytes are|are free)", ended.said["message"]))
    assert 0 < needed < len(BODY)
    assert free < MIB


def test_a_disk_that_is_too_small_for_what_is_unpacked_is_told(tmp_path: Path) -> None:
    packed = gzipped({"model.gguf": BODY}).body
    with Origin({"model.tar.gz": packed}) as origin:
        url = f"{origin.url}/model.tar.gz"
        source = {"type": "HTTP", "http": {"url": url, "sha256": hashlib.sha256(packed).hexdigest()}}
        ended = on_small_disk(Loader(tmp_path, source), "4m").run()
    assert (ended.reason, ended.said["retryable"]) == ("OutOfSpace", True), ended.log
    assert f"{len(BODY)} more bytes are needed" in ended.said["message"]


@pytest.mark.parametrize("announced", [len(BODY) + 1, len(BODY) - 1], ids=["too much", "too little"])
def test_a_hub_that_lies_about_a_size_is_told(hub: Hub, tmp_path: Path, announced: int) -> None:
    hub.repositories[REPO].sizes["model-2.safetensors"] = announced
    ended = from_hub(tmp_path, hub).run()
    assert (ended.reason, ended.said["retryable"]) == ("DigestMismatch", False)
    assert "'model-2.safetensors'" in ended.said["message"]


def test_a_server_that_announces_more_than_it_has_is_told(origin: Origin, tmp_path: Path) -> None:
    origin.faults = [Fault(times=-1, announce=len(BODY) + 100)]
    ended = from_origin(tmp_path, origin, ROUNDHOUSE_LOADER_PATIENCE_SECONDS="60").run()
    assert ended.reason == "DigestMismatch", ended.log
    assert f"ends at byte {len(BODY)}" in ended.said["message"]


def test_a_server_that_sends_other_bytes_is_told(origin: Origin, tmp_path: Path) -> None:
    origin.faults = [Fault(times=-1, corrupt=True)]
    one = from_origin(tmp_path, origin)
    ended = one.run()
    assert ended.reason == "DigestMismatch"
    assert SHA256 in ended.said["message"]
    assert one.files == {}
    origin.faults = []
    assert one.run().status == 0


def test_what_a_crash_tore_is_fetched_anew(origin: Origin, tmp_path: Path) -> None:
    origin.faults = [Fault(cut_after=3 * MIB), Fault(times=-1, status=503)]
    one = from_origin(tmp_path, origin)
    assert one.run().reason == "SourceUnreachable"
    [partial] = (one.cache / "partial").iterdir()
    with partial.open("r+b") as file:
        file.write(bytes(100))
    origin.faults = []
    ended = one.run()
    assert (ended.status, one.files) == (0, {"model.gguf": BODY}), ended.log


def test_a_cache_that_was_damaged_is_mended_by_fetching_what_is_missing(hub: Hub, tmp_path: Path) -> None:
    one = from_hub(tmp_path, hub)
    assert one.run().status == 0
    (one.cache / "files/model-1.safetensors").write_bytes(b"cut")
    hub.cdn.seen[:] = []
    assert one.run().status == 0
    assert one.files == SHARDS
    assert len(hub.cdn.seen) == 1


@pytest.mark.req("S2-15", "S2-17", "S2-29")
def test_nothing_is_fetched_where_that_is_forbidden(hub: Hub, tmp_path: Path) -> None:
    one = from_hub(tmp_path, hub, ROUNDHOUSE_DOWNLOAD_POLICY="Never")
    ended = one.run()
    assert (ended.reason, ended.said["retryable"]) == ("WeightsMissing", False)
    assert "downloadPolicy: Auto" in ended.said["message"]
    assert from_hub(tmp_path, hub).run().status == 0
    hub.seen[:] = []
    assert one.run().status == 0
    assert from_hub(tmp_path, hub, HF_HUB_OFFLINE="1").run().status == 0
    assert hub.seen == []
    (one.cache / "files/model-1.safetensors").unlink()
    ended = one.run()
    assert (ended.reason, hub.seen) == ("WeightsMissing", [])
    assert "model-1.safetensors" in ended.said["message"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(times=-1, status=503),
        Fault(times=-1, status=429, headers={"Retry-After": "1"}),
        Fault(times=-1, cut_after=0),
        Fault(times=-1, silent_seconds=30),
    ],
    ids=["503", "429", "cut", "silent"],
)
def test_a_source_that_keeps_failing_is_unreachable_in_bounded_time(
    origin: Origin, tmp_path: Path, fault: Fault
) -> None:
    origin.faults = [fault]
    ended = from_origin(tmp_path, origin, ROUNDHOUSE_LOADER_TIMEOUT_SECONDS="1").run(seconds=60)
    if fault.cut_after == 0:
        assert ended.reason in {"SourceUnreachable", "DigestMismatch"}
    else:
        assert (ended.reason, ended.said["retryable"]) == ("SourceUnreachable", True), ended.log


def test_a_host_that_nobody_knows_is_unreachable(tmp_path: Path) -> None:
    source = {"type": "HTTP", "http": {"url": "http://models.invalid/m.gguf", "sha256": SHA256}}
    ended = Loader(tmp_path, source).run()
    assert (ended.reason, ended.said["retryable"]) == ("SourceUnreachable", True)
    assert "models.invalid" in ended.said["message"]


def test_a_cache_that_may_not_be_written_is_told(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    ended = from_origin(tmp_path, origin).run()
    assert ended.reason == "LoaderFailed"
    assert "the cache cannot be used" in ended.said["message"]
    assert str(tmp_path / "cache") in ended.said["message"]


def test_progress_is_told_while_it_runs(hub: Hub, tmp_path: Path) -> None:
    hub.cdn.faults = [Fault(times=-1, bytes_per_second=MIB // 2)]
    one = from_hub(tmp_path, hub).start()

    def under_way() -> dict[str, object] | None:
        said = one.progress()
        return said if said["remainingSeconds"] > 0 else None

    said = wait_until(under_way, seconds=60, what="the loader knows its rate")
    one.kill(signal.SIGTERM)
    assert said
    assert said["state"] == "Downloading"
    assert said["totalBytes"] == 16 * MIB
    assert 0 < int(str(said["doneBytes"])) < 16 * MIB
    assert int(str(said["bytesPerSecond"])) > 0
    lines = [json.loads(line) for line in one.log().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)


def test_the_end_that_is_asked_for_comes_at_once(origin: Origin, tmp_path: Path) -> None:
    origin.faults = [Fault(times=-1, silent_seconds=60)]
    one = from_origin(tmp_path, origin, ROUNDHOUSE_LOADER_TIMEOUT_SECONDS="60").start()
    wait_until(lambda: origin.seen, seconds=60, what="the loader waits for its source", every=0.05)
    assert one.process is not None
    one.process.terminate()
    assert one.process.wait(10) == 128 + 15


def test_memory_does_not_grow_with_the_weights(tmp_path: Path) -> None:
    body = bytes(256 * MIB)
    with Origin({"model.gguf": body}) as origin:
        one = from_origin(tmp_path, origin, hashlib.sha256(body).hexdigest()).start()
        assert one.process is not None
        peak = 0
        while one.process.poll() is None:
            status = Path(f"/proc/{one.process.pid}/status").read_text()
            peak = max(peak, *map(int, re.findall(r"VmHWM:\s+(\d+) kB", status)), 0)
            time.sleep(0.01)
    assert one.wait().status == 0
    assert 0 < peak < 160 * 1024
