"""Weights from S3, from a real server."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.loader import Loader
from tests.support.s3 import ACCESS, SECRET, Store, s3_server

WEIGHTS = bytes(range(256)) * 12_000
FILES = {
    "whisper/model.bin": WEIGHTS,
    "whisper/config.json": b"{}",
    "whisper/sub/vocab.txt": b"a",
    "whisper/handler.py": b"import os",
    "whisper-large/model.bin": b"other",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with s3_server(tmp_path_factory.mktemp("s3")) as store:
        store.put("models", FILES)
        yield store


def loader(folder: Path, store: Store, *, secret: str | None = SECRET, **s3: str) -> Loader:
    source = {"type": "S3", "s3": {"bucket": "models", "prefix": "whisper", "endpointURL": store.url, **s3}}
    credentials = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": secret} if secret else {}
    return Loader(folder, source, credentials=credentials)


@pytest.mark.req("S2-14")
def test_what_lies_below_a_prefix_becomes_the_weights(store: Store, tmp_path: Path) -> None:
    one = loader(tmp_path, store)
    ended = one.run()
    assert ended.status == 0, ended.log
    assert one.files == {"model.bin": WEIGHTS, "config.json": b"{}", "sub/vocab.txt": b"a"}
    assert "handler.py" in ended.log


def test_a_prefix_may_name_one_object(store: Store, tmp_path: Path) -> None:
    one = loader(tmp_path, store, prefix="whisper/model.bin")
    assert (one.run().status, one.files) == (0, {"model.bin": WEIGHTS})


def test_an_object_uploaded_in_parts_is_fetched(store: Store, tmp_path: Path) -> None:
    store.client.create_bucket(Bucket="parts")
    upload = store.client.create_multipart_upload(Bucket="parts", Key="model.gguf")["UploadId"]
    name = {"Bucket": "parts", "Key": "model.gguf", "UploadId": upload}
    body = bytes(5 << 20)
    tags = [store.client.upload_part(**name, PartNumber=n, Body=body)["ETag"] for n in (1, 2)]
    parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, start=1)]
    store.client.complete_multipart_upload(**name, MultipartUpload={"Parts": parts})
    one = loader(tmp_path, store, bucket="parts", prefix="")
    ended = one.run()
    assert ended.status == 0, ended.log
    assert hashlib.sha256(one.files["model.gguf"]).digest() == hashlib.sha256(body * 2).digest()


@pytest.mark.parametrize("secret", [None, "wr0ng-secret-of-nobody"], ids=["a stranger", "a wrong secret"])
def test_refused_credentials_are_told_and_shown_nowhere(
    store: Store, tmp_path: Path, secret: str | None
) -> None:
    ended = loader(tmp_path, store, secret=secret).run()
    assert (ended.reason, ended.said["retryable"]) == ("Unauthorized", False)
    assert "`credentialsSecretRef`" in ended.said["message"]
    assert "wr0ng" not in ended.log + json.dumps(ended.said)


def test_a_bucket_that_is_not_there_is_told(store: Store, tmp_path: Path) -> None:
    ended = loader(tmp_path, store, bucket="none-such").run()
    assert ended.reason == "SourceNotFound"
    assert "'none-such'" in ended.said["message"]
    ended = loader(tmp_path / "two", store, prefix="nothing").run()
    assert ended.reason == "SourceNotFound"
    assert "'nothing'" in ended.said["message"]


def test_bytes_that_rotted_in_the_store_are_refused(store: Store, tmp_path: Path) -> None:
    store.put("rotten", {"model.gguf": WEIGHTS})
    [path] = [path for path in store.data.rglob("model.gguf") if "rotten" in str(path)]
    with path.open("r+b") as file:
        file.write(b"other")
    ended = loader(tmp_path, store, bucket="rotten", prefix="").run()
    assert ended.reason == "DigestMismatch", ended.log


def test_a_server_that_is_gone_is_unreachable(store: Store, tmp_path: Path) -> None:
    ended = loader(tmp_path, store, endpointURL="http://127.0.0.1:1").run()
    assert (ended.reason, ended.said["retryable"]) == ("SourceUnreachable", True)
