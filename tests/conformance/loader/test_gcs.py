"""Weights from Google Cloud Storage, by its own client, from an emulator."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gcs import Buckets
from tests.support.loader import Loader
from tests.support.origin import Fault

WEIGHTS = bytes(range(256)) * 12_000


@pytest.fixture
def buckets() -> Iterator[Buckets]:
    with Buckets() as buckets:
        buckets.files |= {
            "models/whisper/model.bin": WEIGHTS,
            "models/whisper/config.json": b"{}",
            "models/whisper/sub/vocab.txt": b"a",
            "models/whisper-large/model.bin": b"other",
            "models/whisper/": b"",
        }
        yield buckets


def loader(folder: Path, buckets: Buckets, *, key: str | None = None, **gcs: str) -> Loader:
    source = {"type": "GCS", "gcs": {"bucket": "models", "prefix": "whisper", **gcs}}
    credentials = {"credentials.json": key} if key else {}
    return Loader(folder, source, {"STORAGE_EMULATOR_HOST": buckets.url}, credentials)


@pytest.mark.req("S2-14")
def test_what_lies_below_a_prefix_becomes_the_weights(buckets: Buckets, tmp_path: Path) -> None:
    one = loader(tmp_path, buckets)
    ended = one.run()
    assert ended.status == 0, ended.log
    assert one.files == {"model.bin": WEIGHTS, "config.json": b"{}", "sub/vocab.txt": b"a"}


def test_a_prefix_may_name_one_object(buckets: Buckets, tmp_path: Path) -> None:
    one = loader(tmp_path, buckets, prefix="whisper/model.bin")
    assert (one.run().status, one.files) == (0, {"model.bin": WEIGHTS})


def test_a_connection_that_is_cut_is_taken_up_where_it_ended(buckets: Buckets, tmp_path: Path) -> None:
    buckets.faults = [Fault("/download/*model.bin", cut_after=2_000_000)]
    one = loader(tmp_path, buckets, prefix="whisper/model.bin")
    ended = one.run()
    assert ended.status == 0, ended.log
    assert one.files == {"model.bin": WEIGHTS}
    assert sum(buckets.sent_bytes.values()) < len(WEIGHTS) + 1_100_000


def test_an_account_reads_a_private_bucket_and_its_key_is_shown_nowhere(
    buckets: Buckets, tmp_path: Path
) -> None:
    buckets.private = True
    key = buckets.account()
    ended = loader(tmp_path, buckets, key=key).run()
    assert ended.status == 0, ended.log
    buckets.access_token = "ya29.another-token-of-it"  # noqa: S105
    stranger = loader(tmp_path / "stranger", buckets).run()
    assert stranger.reason == "Unauthorized"
    shown = ended.log + stranger.log
    assert json.loads(key)["private_key"][100:140] not in shown
    assert "ya29" not in shown


def test_a_bucket_that_is_not_there_is_told(buckets: Buckets, tmp_path: Path) -> None:
    assert loader(tmp_path, buckets, bucket="none").run().reason == "SourceNotFound"
    ended = loader(tmp_path / "two", buckets, prefix="nothing").run()
    assert ended.reason == "SourceNotFound"
    assert "'nothing'" in ended.said["message"]


def test_another_checksum_is_refused(buckets: Buckets, tmp_path: Path) -> None:
    buckets.faults = [Fault("/download/*model.bin", times=-1, corrupt=True)]
    assert loader(tmp_path, buckets).run().reason == "DigestMismatch"


def test_a_bucket_that_stays_away_is_unreachable(buckets: Buckets, tmp_path: Path) -> None:
    buckets.faults = [Fault(times=-1, status=503)]
    ended = loader(tmp_path, buckets).run()
    assert (ended.reason, ended.said["retryable"]) == ("SourceUnreachable", True)


def test_a_secret_without_a_key_is_told(buckets: Buckets, tmp_path: Path) -> None:
    ended = loader(tmp_path, buckets, key="not JSON at all").run()
    assert ended.reason == "InvalidSource"
    assert "not JSON" not in ended.said["message"]
