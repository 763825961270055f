"""The images of this repository, and what each is made of. Pure but for reading the files it names.

A Containerfile is the one source: which files go into an image, and so when it must be built anew, is read
from its COPY instructions, and the pinned bases from its ARG defaults. How it is built is decided in `build`.
"""

import hashlib
import re
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL_REGISTRY = "localhost/roundhouse"
UNWANTED = {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
INSTRUCTION = re.compile(r"^(?P<name>[A-Z]+)\s+(?P<rest>.*)$")


@dataclass(frozen=True, slots=True)
class Image:
    """One image: its name below the registry, and its Containerfile relative to the repository's root."""

    name: str
    containerfile: str
    on: "Image | None" = None
    """The image that it starts from, whose layers others share with it; None: the base of all."""
    on_gpus: bool = False
    """Whether there is one for GPUs, too, by the build argument CUDA."""
    told: tuple[str, ...] = ()
    """Build arguments of one for GPUs that the environment may give."""

    def reference(self, version: str, registry: str = LOCAL_REGISTRY) -> str:
        return f"{registry}/{self.name}:{version}"


TORCH = Image("torch", "engine-images/base/torch.Containerfile")
"""Never run by itself: what torch's engines start from. Its build argument is called TORCH."""

IMAGES = (
    Image("operator", "operator/Containerfile"),
    Image("gateway", "gateway/Containerfile"),
    Image("loader", "engine-images/loader/Containerfile"),
    Image(
        "llama-cpp",
        "engine-images/llama-cpp/Containerfile",
        on_gpus=True,
        told=("WHEELS", "WHEEL_SHA256"),
    ),
    Image("pocketsphinx", "engine-images/pocketsphinx/Containerfile"),
    Image("faster-whisper", "engine-images/faster-whisper/Containerfile", on_gpus=True),
    Image("transformers", "engine-images/transformers/Containerfile", on=TORCH, on_gpus=True),
    Image("musicgen", "engine-images/musicgen/Containerfile", on=TORCH, on_gpus=True),
    Image("nemo", "engine-images/nemo/Containerfile", on=TORCH, on_gpus=True),
)


def project_version(root: Path = ROOT) -> str:
    with (root / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def copied_paths(containerfile: str) -> list[str]:
    """What the COPY instructions take from the repository, in order; not what they take from other stages."""
    paths: list[str] = []
    for name, rest in _instructions(containerfile):
        words = rest.split()
        if name == "COPY" and not words[0].startswith("--from="):
            paths += words[:-1]
    return paths


def argument_default(containerfile: str, argument: str) -> str:
    """The default of a build argument: how a Containerfile pins the images it stands on."""
    for name, rest in _instructions(containerfile):
        key, _, value = rest.partition("=")
        if name == "ARG" and key == argument and value:
            return value
    raise ValueError(f"no ARG {argument!r} with a default in the Containerfile")


def build_key(image: Image, arguments: dict[str, str], root: Path = ROOT) -> str:
    """Twelve hexadecimal digits that change when the image would: recipe, files, arguments, what is below."""
    text = (root / image.containerfile).read_text()
    digest = hashlib.sha256(text.encode())
    if image.on:
        digest.update(f"\0{build_key(image.on, arguments, root)}".encode())
    for name, value in sorted(arguments.items()):
        digest.update(f"\0{name}={value}".encode())
    for path in _files(copied_paths(text), root):
        mode = path.stat().st_mode & 0o777
        digest.update(f"\0{path.relative_to(root)}\0{mode:o}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def snapshot(image: Image, folder: Path, root: Path = ROOT) -> None:
    """Copy what goes into the image: a build that takes a minute must not see what is edited meanwhile."""
    if image.on:
        snapshot(image.on, folder, root)
    text = (root / image.containerfile).read_text()
    for path in (root / image.containerfile, *_files(copied_paths(text), root)):
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def _files(copied: list[str], root: Path) -> Iterator[Path]:
    for name in copied:
        path = root / name
        if not path.is_dir():
            yield path
            continue
        inside = (each for each in path.rglob("*") if each.is_file())
        yield from sorted(each for each in inside if not UNWANTED.intersection(each.relative_to(path).parts))


def _instructions(containerfile: str) -> Iterator[tuple[str, str]]:
    """The instructions, one a line: continued lines are joined, comments dropped."""
    lines = (line for line in containerfile.splitlines() if not line.lstrip().startswith("#"))
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if match := INSTRUCTION.match(line.strip()):
            yield match["name"], match["rest"].strip()
