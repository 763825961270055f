"""What the tests of NeMo's engine do with it: tell it what to serve, watch it, and spoil a model's file."""

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from tests.conformance.engine.nemo_engine import models_folder
from tests.conformance.engine.running import Engine
from tests.support.waiting import wait_until

MADE = ("ctc", "rnnt", "tdt", "canary", "hybrid", "hybrid-live")
LOAD_SECONDS = 600.0
"""For half a minute of imports and a quarter of learning, on a machine that does other things as well."""


@dataclass(frozen=True)
class Served:
    """The engine, and where the file that it follows is, and what cannot be served."""

    engine: Engine
    folder: Path

    def want(self, generation: int, *names: str) -> None:
        paths = {name: (models_folder() if name in MADE else self.folder) / name for name in names}
        models = [
            {"name": name, "path": str(path), "source": {"type": "HuggingFace"}}
            for name, path in paths.items()
        ]
        fresh = self.folder / "models.new"
        fresh.write_text(json.dumps({"generation": generation, "models": models}))
        fresh.rename(self.folder / "models.json")

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        return {model["id"]: model for model in self.engine.get("/v1/models").json["data"]}

    def until(self, *names: str, state: str) -> None:
        def reached() -> bool:
            told = self.models
            return all(told.get(name, {}).get("state") == state for name in names)

        wait_until(reached, seconds=LOAD_SECONDS, what=f"{names} {state}: {self.models}", every=0.2)


def repacked(folder: Path, weights: bytes) -> None:
    """The file of `ctc` with other weights."""
    target = folder / "tiny.nemo"
    folder.mkdir()
    with tarfile.open(models_folder() / "ctc/tiny.nemo") as old, tarfile.open(target, "w:") as new:
        for member in old.getmembers():
            part = old.extractfile(member)
            if part is None:
                continue
            data = weights if member.name.endswith("model_weights.ckpt") else part.read()
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))


def weights_of(archive: Path) -> bytes:
    with tarfile.open(archive) as tar:
        member = next(each for each in tar.getmembers() if each.name.endswith("model_weights.ckpt"))
        part = tar.extractfile(member)
        assert part is not None
        return part.read()


class Harmful:
    """Unpickled, it would make a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self._file), "w"))
