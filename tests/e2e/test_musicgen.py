"""The example of music as it stands: the loader fetches a repository, and the engine's pod makes music of it.

What is in the repository was made on the spot. The gateway has no route for music yet: the pod is asked.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.release import Release
from tests.support.hub import Hub
from tests.support.torch_base import prepare_torch

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/musicgen.yaml"
SMALL = "musicgen-small"
RATE = 32_000


def documents() -> list[dict[str, Any]]:
    """The engine and its smallest size, which asks for what a tiny model needs."""
    engine, small, *_ = yaml.safe_load_all(EXAMPLE.read_text())
    engine["spec"]["hardware"]["resources"]["requests"] = {"cpu": "50m", "memory": "256Mi"}
    return [engine, small]


@pytest.mark.req("S3-7")
def test_the_examples_engine_makes_music_in_its_pod(release: Release, hub: Hub, tmp_path: Path) -> None:
    prepare_torch()
    from tests.support.tiny_music import write_composer  # noqa: PLC0415 - torch loads only now

    folder = write_composer(tmp_path / "small")
    files = [path for path in folder.rglob("*") if path.is_file()]
    hub.commit(f"facebook/{SMALL}", {str(path.relative_to(folder)): path.read_bytes() for path in files})
    manifests = documents()
    release.apply(yaml.safe_dump_all(manifests))
    try:
        release.wait_for_condition(f"modelvariant/{SMALL}", "Ready", "True", "Serving", seconds=300)
        [pod] = [one["metadata"]["name"] for one in release.list("pods", "roundhouse.dev/engine=musicgen")]
        asked = {"model": model(release, pod), "prompt": "one two", "duration": 1, "stream": True}
        path = f"/api/v1/namespaces/{release.namespace}/pods/{pod}:8000/proxy/v1/music/generations"
        told = release.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(asked))
        events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: ")]
        music = b"".join(base64.b64decode(one["audio"]) for one in events if "audio" in one)
        assert music[:4] == b"RIFF"
        assert len(music) == 44 + 2 * RATE
    finally:
        release.delete(*(f"{one['kind'].lower()}/{one['metadata']['name']}" for one in reversed(manifests)))


def model(release: Release, pod: str) -> str:
    """By the name that the engine knows it by."""
    path = f"/api/v1/namespaces/{release.namespace}/pods/{pod}:8000/proxy/v1/models"
    [found] = json.loads(release.kubectl("get", "--raw", path))["data"]
    return str(found["id"])
