"""Weights from a Hugging Face Hub: what a format needs, at a commit, verified; refusals told apart."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from tests.support.hub import Hub
from tests.support.loader import Loader

REPO = "acme/tiny-model"
WEIGHTS = random.Random(7).randbytes(3_000_000)  # noqa: S311 - any bytes will do
SECRET = "hf_abcdefghijklmnop"  # noqa: S105 - the hub that it opens is on loopback
FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "tokenizer/vocab.txt": b"a\nb\n",
    "model.safetensors": WEIGHTS,
    ".gitattributes": b"*.safetensors filter=lfs",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def loader(folder: Path, hub: Hub, *, token: str | None = None, **source: object) -> Loader:
    given = {"type": "HuggingFace", "huggingFace": {"repo": REPO, **source}}
    return Loader(folder, given, {"HF_ENDPOINT": hub.url}, {"token": token} if token else {})


def test_the_official_client_understands_the_hub(hub: Hub, tmp_path: Path) -> None:
    commit = hub.commit(REPO, FILES)
    found = snapshot_download(REPO, endpoint=hub.url, cache_dir=tmp_path, token=False)
    assert Path(found).name == commit
    assert (Path(found) / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.req("S2-14")
def test_a_repository_is_fetched_at_the_commit_that_its_branch_is_at(hub: Hub, tmp_path: Path) -> None:
    commit = hub.commit(REPO, FILES)
    one = loader(tmp_path, hub)
    ended = one.run()
    assert ended.status == 0, ended.log
    assert ended.said["revision"] == commit
    assert one.files == {path: body for path, body in FILES.items() if path != ".gitattributes"}
    assert {each.path.split("/")[4] for each in hub.requests("*/resolve/*")} == {commit}


def test_a_token_is_sent_to_the_hub_and_to_no_other_host(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, FILES)
    hub.repositories[REPO].token = SECRET
    ended = loader(tmp_path, hub, token=f"{SECRET}\n").run()
    assert ended.status == 0, ended.log
    assert {each.headers.get("authorization") for each in hub.seen} == {f"Bearer {SECRET}"}
    assert {each.headers.get("authorization") for each in hub.cdn.seen} == {None}


def test_digest_of_a_tree_is_that_of_its_files(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, {"b": b"2", "a": b"1"})
    ended = loader(tmp_path, hub).run()
    lines = "".join(
        f"{path}\0{hashlib.sha256(body).hexdigest()}\n" for path, body in (("a", b"1"), ("b", b"2"))
    )
    assert ended.said["digest"] == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
