"""The programs of the images, each in a container as the strictest of clusters gives it."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.confined import USER, confined
from tests.images import build_images
from tests.images.folder import pull_folder, read_config
from tests.images.store import Store
from tests.support.origin import Origin
from tests.support.waiting import wait_until

IMPORTS: Final = {
    "operator": "roundhouse_operator.handlers, roundhouse_operator.runtime",
    "gateway": "roundhouse_gateway.cli",
    "loader": "roundhouse_loader.cli",
    "pocketsphinx": "roundhouse_pocketsphinx.handler",
    "faster-whisper": "roundhouse_faster_whisper.handler, faster_whisper, ctranslate2",
    "llama-cpp": "roundhouse_llama_cpp.chat, roundhouse_llama_cpp.embeddings",
    "transformers": "roundhouse_transformers.writer, roundhouse_transformers.encoder",
    "musicgen": "roundhouse_musicgen.composer",
    "nemo": "roundhouse_nemo.restore, roundhouse_nemo.canary, roundhouse_nemo.stream",
}
"""All that a program imports while it serves."""
ENGINES: Final = ("pocketsphinx", "faster-whisper", "llama-cpp", "transformers", "musicgen", "nemo")
STRANGE: Final = {"HOME": "/", "LANG": "de_DE.UTF-8", "TZ": "Asia/Kathmandu"}
"""Nobody writes into this home, and the image has neither that language nor that zone."""
LOOK: Final = """
import getpass, os, sys
import {imports}
for folder in ("/", "/opt/roundhouse", "/var/tmp"):
    try:
        open(os.path.join(folder, "written"), "w")
        sys.exit(f"{{folder}} can be written to")
    except OSError:
        pass
open("/tmp/written", "w").close()
print(os.getuid(), getpass.getuser(), chr(0x2603))
"""
ASK: Final = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8000/health/live").status)
"""
LEAVE_AN_ORPHAN: Final = """
import os
if not os.fork():
    if not os.fork():
        os._exit(0)
    os._exit(0)
os.wait()
"""
COUNT_THE_DEAD: Final = """
from pathlib import Path
stats = [file.read_text().rpartition(")")[2].split() for file in Path("/proc").glob("[0-9]*/stat")]
print(sum(state == "Z" for state, *_ in stats))
"""


@pytest.fixture(scope="module")
def folders() -> dict[str, Path]:
    return build_images(say=lambda _line: None)


@dataclass(slots=True)
class Containers:
    """A container of the image that was asked for last: unpacked they take gigabytes."""

    store: Store
    folders: dict[str, Path]
    made: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str:
        if name not in self.made:
            self.clear()
            image = pull_folder(self.store, self.folders[name], step="test")
            self.made[name] = self.store.buildah("from", image, step="test")
        return self.made[name]

    def clear(self) -> None:
        self.made.clear()
        self.store.buildah("rm", "--all", step="test")
        self.store.buildah("rmi", "--all", "--force", step="test")


@pytest.fixture(scope="module")
def containers(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    store = Store(tmp_path_factory.mktemp("containers"))
    store.recover()
    found = Containers(store, folders)
    yield found
    found.clear()


@pytest.mark.parametrize("name", IMPORTS)
def test_a_program_lives_under_the_strictest_rules(
    containers: Containers, folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    told = read_config(folders[name])
    environment = dict(each.split("=", 1) for each in told["Env"]) | STRANGE
    environment["ROUNDHOUSE_MODELS_FILE"] = "/etc/roundhouse/models.json"
    # Those that are no engines end where they see no cluster, or have nothing to fetch.
    command = told["Entrypoint"] if name in ENGINES else ["sleep", "infinity"]
    container = containers.of(name)
    with confined(containers.store, container, command, environment, tmp_path / "log") as program:
        if name in ENGINES:
            wait_until(lambda: "listening" in program.logged, seconds=120, what="it listens", every=0.1)
            assert program.run(ASK) == "200"
        assert program.run(LOOK.format(imports=IMPORTS[name])) == f"{USER} roundhouse \N{SNOWMAN}"
        if name not in ENGINES:
            return
        program.run(LEAVE_AN_ORPHAN)
        wait_until(lambda: program.run(COUNT_THE_DEAD) == "0", seconds=60, what="it is buried", every=2)
        assert program.end() == 0, program.logged
    assert "Traceback" not in program.logged


@pytest.mark.parametrize("place", ["HTTP", "S3", "GCS", "OCI", "HuggingFace"])
def test_the_loader_loads_in_its_image(containers: Containers, tmp_path: Path, place: str) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    os.chown(cache, 65532, 65532)
    with Origin({"model.gguf": b"weights"}) as origin:
        source = {
            "HTTP": {"url": f"{origin.url}/model.gguf", "sha256": hashlib.sha256(b"weights").hexdigest()},
            "S3": {"bucket": "models", "endpointURL": origin.url},
            "GCS": {"bucket": "models"},
            "OCI": {"image": f"{origin.url.removeprefix('http://')}/models/tiny"},
            "HuggingFace": {"repo": "acme/tiny"},
        }
        member = place[0].lower() + place[1:] if place == "HuggingFace" else place.lower()
        environment = {
            "ROUNDHOUSE_SOURCE": json.dumps({"type": place, member: source[place]}),
            "ROUNDHOUSE_CACHE_KEY": "key",
            "ROUNDHOUSE_TERMINATION_LOG": "/cache/said.json",
            "HF_ENDPOINT": origin.url,
            "STORAGE_EMULATOR_HOST": origin.url,
            "NO_PROXY": "127.0.0.1",
        }
        given = [f"--env={name}={value}" for name, value in environment.items()]
        run = [
            "run",
            "--isolation",
            "chroot",
            "--volume",
            f"{cache}:/cache",
            *given,
            containers.of("loader"),
            "--",
        ]
        command = containers.store.command(*run, "python", "-m", "roundhouse_loader")
        status = subprocess.run(command, capture_output=True, check=False).returncode
    said = json.loads((cache / "said.json").read_text())
    if place == "HTTP":
        assert (status, said["result"]) == (0, "Complete")
        assert (cache / "key/files/model.gguf").stat().st_uid == 65532
    else:  # that server is none of these, but each client gets as far as to ask it
        assert (status, said["reason"]) == (1, "SourceNotFound")
