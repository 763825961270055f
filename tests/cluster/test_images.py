"""The images as they are built: what is in them, how they are pushed, what a killed build leaves."""

import fcntl
import json
import re
import secrets
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.images import IMAGES, Image, build_images, image_folders
from tests.images.base import choose_base, made_here
from tests.images.build import image_folder
from tests.images.definitions import project_version
from tests.images.folder import blob, read_config, read_manifest
from tests.images.registry import Registry
from tests.images.sizes import MOST_MB, check_sizes
from tests.images.store import Store
from tests.support.waiting import wait_until

NAMES = [image.name for image in IMAGES]
TOOLS = re.compile(
    r"(.*-)?(uvx?|pip|gcc|g\+\+|c\+\+|cc|cpp|clang|ld|make|cmake|ninja|apt(-get)?|dpkg-buildpackage|protoc|nvcc|git"
    r"|pytest|py\.test|hatch(ling)?|cython(ize)?|wheel)[\d.-]*"
)
"""What builds, installs or tests, by the name of its program, whatever its version."""
PACKAGES = {"pip", "setuptools", "pkg_resources", "wheel", "hatchling", "Cython", "ninja", "uv"} | {
    *("pytest", "_pytest", "hypothesis", "nvidia", "triton")
}
FOR_COMPILERS = {".a", ".h", ".hpp", ".cuh", ".c", ".cc", ".cpp", ".cu", ".pyx", ".pxd", ".pxi"}
KILLED = """
import sys
from pathlib import Path
from tests.images.store import Store
store = Store(Path(sys.argv[1]))
store.recover()
folder, seconds = sys.argv[1:]
script = f"mount -t tmpfs none {folder}/tmp && touch {folder}/tmp/mounted && echo $$ && sleep {seconds}"
store.run_long(["sh", "-c", script], label="build", log="build", say=print)
"""


@pytest.fixture(scope="module")
def folders() -> dict[str, Path]:
    return build_images(say=lambda _line: None)


def layer_files(folder: Path) -> list[Path]:
    """The base's first."""
    return [blob(folder, layer["digest"]) for layer in read_manifest(folder)["layers"]]


def layers(folder: Path) -> Iterator[list[str]]:
    """The paths in each layer, the base's first."""
    for file in layer_files(folder):
        with tarfile.open(file) as layer:
            yield layer.getnames()


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_holds_the_image_under_the_name_that_the_chart_expects(
    folders: dict[str, Path], name: str
) -> None:
    assert read_manifest(folders[name])["name"] == f"localhost/roundhouse/{name}:{project_version()}"
    assert read_config(folders[name])["User"] == "65532:65532"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_build_is_left_in_an_image(folders: dict[str, Path], name: str) -> None:
    base, *others = layers(folders[name])
    packages = [path for layer in others for path in layer]
    ours = base if made_here(Store(image_folder() / "store")) else []
    everything = [PurePosixPath(path) for path in (*ours, *packages)]
    programs = [path for path in everything if path.parent.name in {"bin", "sbin"}]
    assert programs
    assert not [path for path in programs if TOOLS.fullmatch(path.name)]
    installed = [path for path in everything if path.parent.name in {"site-packages", "dist-packages"}]
    assert installed
    assert not [path for path in installed if path.name.partition("-")[0] in PACKAGES]
    assert not [path for path in packages if path.endswith(("/torch/include", "/torch/share"))]
    inside = [PurePosixPath(path) for path in packages if "/site-packages/" in path]
    assert not [path for path in inside if {"tests", "test"}.intersection(path.parts)]
    assert [path for path in inside if path.suffix in FOR_COMPILERS and "numba" not in path.parts] == []
    assert not [path for path in inside if path.suffix == ".pyi" and "librosa" not in path.parts]
    # No list of pins, no cache, no certificate and no index of the machine that built it.
    assert {path.rstrip("/").split("/")[0] for path in packages} <= {"opt", "tmp"}
    assert not [path for path in packages if path.startswith("tmp/")]


def test_no_image_is_larger_than_it_may_be(folders: dict[str, Path]) -> None:
    check_sizes(folders, MOST_MB)


@pytest.mark.parametrize("image", [image for image in IMAGES if image.on], ids=lambda image: image.name)
def test_what_is_in_a_shared_layer_is_there_once(folders: dict[str, Path], image: Image) -> None:
    _, shared, own = (
        {path for path in layer if path.endswith((".py", ".pyc", ".so"))}
        for layer in layers(folders[image.name])
    )
    assert any(path.endswith("/site-packages/torch/lib/libtorch_cpu.so") for path in shared)
    assert own
    assert not shared & own
    others = [each.name for each in IMAGES if each.on == image.on]
    assert len({layer_files(folders[name])[1].stat().st_ino for name in others}) == 1, "one file"


@pytest.mark.parametrize("name", NAMES)
def test_every_module_of_an_image_is_compiled(folders: dict[str, Path], name: str) -> None:
    _, *packages = layers(folders[name])
    names = [path for layer in packages for path in layer if "/site-packages/" in path]
    compiled = {path for path in names if path.endswith(".pyc")}
    sources = [PurePosixPath(path) for path in names if path.endswith(".py")]
    assert sources
    assert [
        str(path)
        for path in sources
        if str(path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc") not in compiled
    ] == []


def test_images_share_their_base(folders: dict[str, Path]) -> None:
    assert len({layer_files(folder)[0].stat().st_ino for folder in folders.values()}) == 1, "one file"


def test_a_second_build_takes_what_is_there(folders: dict[str, Path]) -> None:
    said: list[str] = []
    assert build_images(say=said.append) == folders
    assert sum(line.endswith("unchanged") for line in said) == len(IMAGES)


def test_asking_where_images_are_waits_for_no_build(folders: dict[str, Path]) -> None:
    with (image_folder() / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert image_folders() == folders


def test_images_are_pushed_to_the_registry_that_is_named(folders: dict[str, Path]) -> None:
    [operator] = [image for image in IMAGES if image.name == "operator"]
    with Registry() as registry:
        build_images([operator], push=f"{registry.address}/speech", say=lambda _line: None)
        pushed = json.loads(registry.blobs[registry.tags[f"speech/operator:{project_version()}"]])
        stored = json.loads(registry.blobs[pushed["config"]["digest"]])
    assert stored["config"]["Entrypoint"] == ["roundhouse", "operator"]


def test_what_images_start_from_is_kept_for_another_checkout_and_no_longer(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.recover()
    for tag in ("oldest", "theirs", "ours"):
        container = store.buildah("from", "scratch", step="test")
        store.buildah("config", "--label", f"of={tag}", container, step="test")
        store.buildah("commit", "--rm", container, f"localhost/roundhouse/torch:{tag}", step="test")
    store.drop_others("localhost/roundhouse/torch:ours", newest=1)
    kept = [
        tag for tag in ("oldest", "theirs", "ours") if store.image_id(f"localhost/roundhouse/torch:{tag}")
    ]
    assert kept == ["theirs", "ours"]


@pytest.mark.parametrize("pinned", [False, True], ids=["by tag", "by tag and digest"])
def test_a_base_is_fetched_from_a_registry_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pinned: bool
) -> None:
    theirs, ours = Store(tmp_path / "theirs"), Store(tmp_path / "ours")
    theirs.recover()
    ours.recover()
    with Registry() as registry:
        image = f"{registry.address}/python:3.11"
        container = theirs.buildah("from", "scratch", step="test")
        made = theirs.buildah("commit", "--quiet", container, image, step="test")
        theirs.buildah("push", "--tls-verify=false", image, step="test")
        reference = f"{image}@{registry.tags['python:3.11']}" if pinned else image
        monkeypatch.setenv("ROUNDHOUSE_IMAGE_BASE", reference)
        said: list[str] = []
        first = choose_base(ours, "unused", said.append)
        assert first == made.removeprefix("sha256:")
        assert choose_base(ours, "unused", said.append) == first
    assert len([line for line in said if line.startswith("base: fetching")]) == 1


def test_a_killed_build_leaves_nothing_running_or_mounted_and_can_be_repeated(tmp_path: Path) -> None:
    seconds = str(50_000 + secrets.randbelow(10_000))
    asleep = f"sleep {seconds}"
    build = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), seconds])
    log = tmp_path / "logs" / "build.log"
    try:
        wait_until(lambda: log.exists() and log.read_text(), seconds=60, what="the build runs")
        assert asleep in _processes()
    finally:
        build.send_signal(signal.SIGKILL)
        build.wait()
    wait_until(lambda: asleep not in _processes(), seconds=60, what="its processes are gone")
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    store = Store(tmp_path)
    store.buildah("from", "scratch", step="test")
    store.recover()
    assert store.buildah("containers", "--quiet", step="test") == ""


def _processes() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
