"""A repository's own code runs where its source allows that, and nowhere else."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conformance.engine.running import Engine, running
from tests.conformance.engine.test_transformers import READY_SECONDS, post
from tests.support.torch_base import prepare_torch
from tests.support.waiting import wait_until

OWN = '''
from transformers import BertConfig, BertModel


class OwnConfig(BertConfig):
    model_type = "own"


class OwnModel(BertModel):
    """Says the same of every text."""

    config_class = OwnConfig

    def forward(self, *args, **kwargs):
        found = super().forward(*args, **kwargs)
        found.last_hidden_state[:] = 2
        return found
'''


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prepare_torch()
    from tests.support import tiny_models  # noqa: PLC0415 - torch loads only from here on

    folder = tiny_models.write_embedder(tmp_path_factory.mktemp("own") / "m")
    (folder / "own.py").write_text(OWN)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def serving(
    repository: Path, folder: Path, source: Mapping[str, object]
) -> contextlib.AbstractContextManager[Engine]:
    variables = {
        "ROUNDHOUSE_MODELS": json.dumps([{"name": "m", "path": str(repository), "source": source}]),
        "MODELS": "",
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(folder / "home"),  # which the library copies such code to
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONWARNINGS": "default",
    }
    return running(("-m", "roundhouse_transformers", "embeddings"), folder, **variables)


def test_own_code_runs_where_its_source_allows_it(repository: Path, tmp_path: Path) -> None:
    source = {"type": "HuggingFace", "allow": ["RemoteCode"]}
    with serving(repository, tmp_path, source) as engine:
        wait_until(
            lambda: engine.ready, seconds=READY_SECONDS, what=f"ready; log:\n{engine.logged}", every=0.2
        )
        found = post(engine, "/v1/embeddings", model="m", input=["one", "two"]).json["data"]
    assert found[0]["embedding"] == pytest.approx([32**-0.5] * 32), "as its own code says"
    assert found[1]["embedding"] == pytest.approx(found[0]["embedding"])


def test_own_code_does_not_run_where_it_does_not(repository: Path, tmp_path: Path) -> None:
    with serving(repository, tmp_path, {"type": "HuggingFace"}) as engine:
        assert engine.ended() == 1
    assert not (tmp_path / "home/modules").exists(), "none of it was looked at"
    assert engine.logged.splitlines()[-1].endswith("is not run unless its source says `allow: [RemoteCode]`.")
