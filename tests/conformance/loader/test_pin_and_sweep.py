"""A branch that moved is fetched as it was, and weights that nobody wants go as a whole."""

import json
from pathlib import Path

from tests.support.hub import Hub
from tests.support.loader import KEY, Loader

REPO = "acme/tiny-model"
SOURCE = {"type": "HuggingFace", "huggingFace": {"repo": REPO}}


def test_a_branch_that_moved_is_fetched_at_the_revision_that_was_pinned(tmp_path: Path) -> None:
    with Hub() as hub:
        pinned = hub.commit(REPO, {"config.json": b"{}"})
        hub.commit(REPO, {"config.json": b'{"moved": true}'})
        environment = {"HF_ENDPOINT": hub.url, "ROUNDHOUSE_REVISION": pinned}
        one = Loader(tmp_path, SOURCE, environment)
        ended = one.run()
    assert ended.said["revision"] == pinned
    assert one.files == {"config.json": b"{}"}


def test_a_sweep_removes_one_key_and_leaves_the_others(tmp_path: Path) -> None:
    with Hub() as hub:
        hub.commit(REPO, {"config.json": b"{}"})
        one = Loader(tmp_path, SOURCE, {"HF_ENDPOINT": hub.url})
        assert one.run().status == 0
    neighbour = tmp_path / "cache" / "another"
    neighbour.mkdir()
    (neighbour / "complete.json").write_text("{}")
    sweep = Loader(tmp_path, SOURCE, arguments=("sweep",))
    ended = sweep.run()
    assert (ended.status, ended.said) == (0, {"result": "Swept"}), ended.log
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["another"]
    again = sweep.run()
    assert again.status == 0, "what is gone already is gone"


def test_a_sweep_waits_for_a_loader_that_fills_the_folder(tmp_path: Path) -> None:
    with Hub() as hub:
        hub.commit(REPO, {"config.json": b"{}"})
        one = Loader(tmp_path, SOURCE, {"HF_ENDPOINT": hub.url})
        one.start()
        sweep = Loader(tmp_path, SOURCE, arguments=("sweep",), name="sweep")
        assert sweep.run().status == 0
        assert one.wait().status == 0
    left = tmp_path / "cache" / KEY / "complete.json"
    # Either way round: swept after it was whole, or filled after it was swept.
    assert not left.exists() or json.loads(left.read_text())["files"] == 1
