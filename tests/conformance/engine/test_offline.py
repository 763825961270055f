"""The libraries of an image ask no hub for what a model lacks: its Containerfile tells their client."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.definitions import IMAGES, ROOT
from tests.support.hub import Hub

WITH_THE_CLIENT = ("faster-whisper", "transformers", "musicgen", "nemo")
"""Images whose libraries fetch by Hugging Face's own client what they do not find."""
FETCH = """
import sys
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
try:
    hf_hub_download("acme/tiny-model", "config.json")
except LocalEntryNotFoundError as error:
    sys.exit(str(error))
"""


def settings(image: str) -> dict[str, str]:
    """What the image's Containerfile says to the client."""
    [containerfile] = [each.containerfile for each in IMAGES if each.name == image]
    text = (ROOT / containerfile).read_text().rpartition("\nENV ")[2]
    return dict(re.findall(r"\b(HF_\w+|TRANSFORMERS_\w+)=(\S+)", text))


def fetch(folder: Path, told: dict[str, str]) -> tuple[subprocess.CompletedProcess[str], int]:
    """What came of fetching a file that the hub has, and how often the hub was asked."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
    }
    with Hub() as hub:
        hub.commit("acme/tiny-model", {"config.json": b"{}"})
        environment = clean | {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder)} | told
        command = [sys.executable, "-c", FETCH]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done, len(hub.seen)


@pytest.mark.parametrize("image", WITH_THE_CLIENT)
def test_no_library_of_an_image_asks_the_hub(image: str, tmp_path: Path) -> None:
    done, asked = fetch(tmp_path, settings(image))
    assert done.returncode == 1, done.stderr
    assert "in the local cache" in done.stderr
    assert asked == 0


def test_without_those_settings_it_would(tmp_path: Path) -> None:
    done, asked = fetch(tmp_path, {})
    assert done.returncode == 0, done.stderr
    assert asked
