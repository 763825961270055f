"""OpenAI's official client for JavaScript against the gateway, on a Node of its own."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import VERBOSE

HERE = Path(__file__).parent / "node"
NODE = Path(sys.executable).parent
"""`node` and `npm` are those of the development environment, because the client wants a new one."""


@pytest.fixture(scope="module")
def script() -> Path:
    """The script beside the client that the lock pins, which is fetched once."""
    lock = (HERE / "package-lock.json").read_bytes()
    folder = Path.home() / ".cache/roundhouse" / f"npm-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not (folder / "node_modules/openai/package.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        command: list[str | Path] = [NODE / "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        path = f"{NODE}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(command, cwd=folder, check=True, timeout=300, env={**os.environ, "PATH": path})
    return Path(shutil.copy(HERE / "ask.mjs", folder))


def test_chat_streams_embeddings_transcripts_and_errors(world: World, script: Path) -> None:
    world.serve(Variant("qwen", stage="Chat", languages=None)).answer = scripts.chat
    dying = world.serve(Variant("dying", stage="Chat", languages=None))
    dying.answer = scripts.streaming(*scripts.FRAMES[:2], then=scripts.die)
    world.serve(Variant("minilm", stage="Embed", languages=None)).answer = scripts.embeddings()
    engine = world.serve(Variant("whisper"))
    done = subprocess.run(
        [NODE / "node", script, world.gateway.base_url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    vectors = found.pop("vectors")
    assert vectors == [pytest.approx(scripts.vector(text)) for text in ("one two", "three")]
    assert found == {
        "said": "".join(scripts.WORDS),
        "streamed": "".join(scripts.WORDS),
        "broken": "engine_failed",
        "heard": {"text": VERBOSE["text"], "words": VERBOSE["words"]},
        "unknown": {"status": 404, "code": "model_not_found", "param": "model"},
    }
    (upload,) = engine.requests
    assert (upload.filename, upload.file_size) == ("speech.wav", 4000)
    assert ("timestamp_granularities[]", "word") in upload.fields
