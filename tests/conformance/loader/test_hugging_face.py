"""Weights from a Hugging Face Hub: what a format needs, at a commit, verified; refusals told apart."""

import hashlib
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import Hub, Repository
from tests.support.loader import Loader
from tests.support.origin import Fault, Origin

REPO = "acme/tiny-model"
HF = Path(sys.executable).with_name("hf")
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
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HOME": str(tmp_path),
        "HF_HUB_CACHE": str(tmp_path),
    }
    subprocess.run([HF, "download", REPO], env={**os.environ, **settings}, check=True, timeout=300)
    found = next(tmp_path.glob("models--*/snapshots/*"))
    assert found.name == commit
    assert (found / "model.safetensors").read_bytes() == WEIGHTS


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


def test_a_pinned_commit_stays_what_it_was(hub: Hub, tmp_path: Path) -> None:
    commit = hub.commit(REPO, FILES)
    hub.commit(REPO, {"config.json": b"newer"})
    one = loader(tmp_path, hub, revision=commit)
    ended = one.run()
    assert (ended.said["revision"], one.files["model.safetensors"]) == (commit, WEIGHTS)


def test_a_mirror_that_gives_another_commit_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, FILES)
    pinned = "b" * 40
    hub.repositories[REPO].revisions[pinned] = hub.repositories[REPO].revisions["main"]
    ended = loader(tmp_path, hub, revision=pinned).run()
    assert ended.reason == "DigestMismatch"
    assert "the mirror is not faithful" in ended.said["message"]


def test_patterns_choose_the_files(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, FILES)
    one = loader(tmp_path, hub, include=["*.json", "tokenizer/*"])
    assert one.run().status == 0
    assert sorted(one.files) == ["config.json", "tokenizer/vocab.txt"]
    ended = loader(tmp_path / "two", hub, include=["*.gguf"]).run()
    assert ended.reason == "SourceNotFound"
    assert "'*.gguf'" in ended.said["message"]


def test_pickles_and_code_are_not_fetched_where_nobody_allowed_them(hub: Hub, tmp_path: Path) -> None:
    risky = {"pytorch_model.bin": b"pickled", "modeling.py": b"import os"}
    hub.commit(REPO, {**FILES, **risky})
    one = loader(tmp_path, hub)
    ended = one.run()
    assert not set(risky) & set(one.files)
    assert "modeling.py" in ended.log
    hub.commit(REPO, {"config.json": b"{}", **risky})
    refused = loader(tmp_path / "refused", hub)
    ended = refused.run()
    assert (ended.reason, ended.said["retryable"]) == ("UnsafeFormat", False)
    assert "spec.source.allow" in ended.said["message"]
    assert not refused.cache.joinpath("files").exists()
    allowed = loader(tmp_path / "allowed", hub)
    allowed.source = {**allowed.source, "allow": ["UnsafeFormats", "RemoteCode"]}
    assert allowed.run().status == 0
    assert allowed.files == {"config.json": b"{}", **risky}


def test_a_pickle_under_another_name_is_found_by_its_bytes(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, {"model.bin": pickle.dumps({"weights": [1.0]})})
    one = loader(tmp_path, hub)
    ended = one.run()
    assert ended.reason == "UnsafeFormat"
    assert one.files == {}


def refusal(folder: Path, hub: Hub, token: str | None = None, **source: object) -> str:
    ended = loader(folder, hub, token=token, **source).run()
    assert (ended.status, ended.said["retryable"]) == (1, False), ended.log
    assert SECRET not in ended.log + ended.said["message"]
    return f"{ended.reason}: {ended.said['message']}"


def test_refusals_are_told_apart(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, FILES)
    hub.repositories[REPO].gated_for = "hf_another-token"
    assert "Unauthorized: the repository 'acme/tiny-model'" in refusal(tmp_path / "1", hub)
    assert "accept its terms" in refusal(tmp_path / "2", hub, SECRET)
    hub.repositories[REPO] = Repository(token="hf_another-token")  # noqa: S106
    assert refusal(tmp_path / "3", hub).startswith("Unauthorized")
    assert refusal(tmp_path / "4", hub, SECRET).startswith("SourceNotFound")
    hub.repositories[REPO].token = None
    hub.commit(REPO, FILES)
    assert refusal(tmp_path / "5", hub, revision="v9").endswith("has no revision 'v9'")
    assert "all of its 40 digits" in refusal(tmp_path / "7", hub, revision="0123abc")
    assert refusal(tmp_path / "6", hub, repo="acme/../x").startswith("InvalidSource")


def test_a_hub_that_wants_a_pause_gets_it(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, FILES)
    hub.faults = [
        Fault("/api/*", status=429, headers={"Retry-After": "1"}),
        Fault("*config.json", status=500),
    ]
    one = loader(tmp_path, hub)
    ended = one.run()
    assert ended.status == 0, ended.log
    assert one.files["model.safetensors"] == WEIGHTS


def test_what_is_no_hub_is_told(tmp_path: Path) -> None:
    with Origin({f"api/models/{REPO}/revision/main": b"<html>"}) as origin:
        one = Loader(
            tmp_path, {"type": "HuggingFace", "huggingFace": {"repo": REPO}}, {"HF_ENDPOINT": origin.url}
        )
        ended = one.run()
    assert ended.reason == "InvalidSource"
    assert "check HF_ENDPOINT" in ended.said["message"]


def test_nobody_is_asked_but_the_hub(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, FILES)
    with Origin() as elsewhere:
        one = loader(tmp_path, hub)
        proxy = {"HTTP_PROXY": elsewhere.url, "HTTPS_PROXY": elsewhere.url, "NO_PROXY": "127.0.0.1"}
        one.environment |= proxy
        assert one.run().status == 0
        assert elsewhere.seen == []
        one = loader(tmp_path / "proxied", hub)
        one.environment |= {**proxy, "NO_PROXY": ""}
        assert one.run().reason == "SourceNotFound"
        assert elsewhere.seen
    assert {each.path.split("/")[1] for each in hub.seen} == {"api", "acme"}


def test_digest_of_a_tree_is_that_of_its_files(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, {"b": b"2", "a": b"1"})
    ended = loader(tmp_path, hub).run()
    lines = "".join(
        f"{path}\0{hashlib.sha256(body).hexdigest()}\n" for path, body in (("a", b"1"), ("b", b"2"))
    )
    assert ended.said["digest"] == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
