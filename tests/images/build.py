"""Builds images into folders in the cache, and pushes them. Skips what is built already.

A folder's name holds the key of what went in, so it is there whole and right, or not at all; several
checkouts share the cache. What goes into an image is decided in `definitions`, what it stands on in `base`.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.local.paths import cache_root
from tests.support.packages import PackagesError, install
from tests.support.progress import Say

from .base import choose_base, known_base, plain_http
from .definitions import (
    IMAGES,
    LOCAL_REGISTRY,
    ROOT,
    Image,
    argument_default,
    build_key,
    project_version,
    snapshot,
)
from .folder import megabytes, pull_folder, write_folder
from .host import certificates, find_uv, index_settings, uv_version
from .store import ImageError, Store

DEBIAN_PACKAGES = ("buildah", "mmdebstrap", "debian-archive-keyring", "ca-certificates")
FOLDERS_KEPT = 2  # of each image: so many checkouts can take turns without building anew
GPU_SUFFIX = "-cuda"  # of an image's tag
OTHER_LAYERS_KEPT = 1  # of what images start from, for another checkout
KEPT_SECONDS = 3600.0  # since the last build that asked for it, which is about to load it


@dataclass(frozen=True, slots=True)
class Plan:
    """One image to have: what to call it, and what its build is told."""

    image: Image
    version: str
    arguments: dict[str, str]

    @property
    def reference(self) -> str:
        return self.image.reference(self.version)

    def folder(self, root: Path = ROOT) -> Path:
        """Where it goes, by a name that tells of the sources below `root` as they are now."""
        key = build_key(self.image, self.arguments, root)
        return image_folder() / f"{self.image.name}-{self.version}-{key}"

    def recipe(self, root: Path) -> "Recipe":
        return Recipe(self.image, self.reference, self.arguments, root)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One build: what, under which name, told what, of sources below which folder."""

    image: Image
    reference: str
    arguments: dict[str, str]
    sources: Path

    @property
    def below(self) -> "Recipe | None":
        """Of the image that this one starts from, named by the key of what that is made of."""
        if (image := self.image.on) is None:
            return None
        key = build_key(image, self.arguments, self.sources)
        return Recipe(image, f"{LOCAL_REGISTRY}/{image.name}:{key}", self.arguments, self.sources)


def image_folder() -> Path:
    return cache_root() / "images"


def build_images(
    images: Sequence[Image] = IMAGES,
    *,
    push: str | None = None,
    refresh_base: bool = False,
    gpu: bool = False,
    say: Say,
) -> dict[str, Path]:
    """Have a folder of each image, and push them where `push` names a registry; the folders by name.

    With `gpu` they are those that compute on GPUs, which have a tag of their own.
    """
    try:
        install(DEBIAN_PACKAGES, purpose="building container images")
    except PackagesError as error:
        raise ImageError(str(error)) from error
    began = time.monotonic()
    folders: dict[str, Path] = {}
    with _locked_store(say) as store:
        base = choose_base(store, _pinned_base(images), say, refresh=refresh_base)
        for index, plan in enumerate(_plans(images, base, _uv_image(store), gpu=gpu), start=1):
            label = f"[{index}/{len(images)}] {plan.image.name}"
            folders[plan.image.name] = folder = _folder(store, plan, label, say)
            if push:
                _push(store, plan, folder, push, say)
        store.prune()
    say(f"images ready in {time.monotonic() - began:.0f} s, in {image_folder()}")
    return folders


def image_folders(images: Sequence[Image] = IMAGES, *, gpu: bool = False) -> dict[str, Path]:
    """The folders of the images as the sources are now; ImageError names the first that is not built.

    Only looks, so it waits for nobody who builds.
    """
    base = known_base(Store(image_folder() / "store"), _pinned_base(images)) or "none yet"
    folders = {plan.image.name: plan.folder() for plan in _plans(images, base, _uv_reference(), gpu=gpu)}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise ImageError(f"image {name!r} is not built as the sources are now: run `make images`")
    return folders


def _pinned_base(images: Sequence[Image]) -> str:
    lowest = {image.on or image for image in images}
    pinned = {argument_default((ROOT / image.containerfile).read_text(), "BASE") for image in lowest}
    if len(pinned) != 1:
        raise ImageError(
            f"the Containerfiles name different bases, so no layer can be shared: {sorted(pinned)}"
        )
    return pinned.pop()


def _plans(images: Sequence[Image], base: str, uv: str, *, gpu: bool) -> list[Plan]:
    version = project_version() + (GPU_SUFFIX if gpu else "")
    arguments = {"BASE": base, "UV": uv, "VERSION": version} | ({"CUDA": "1"} if gpu else {})
    return [Plan(image, version, arguments | (_given(image) if gpu else {})) for image in images]


def _given(image: Image) -> dict[str, str]:
    return {name: value for name in image.told if (value := os.environ.get(name))}


def _uv_reference() -> str:
    return f"{LOCAL_REGISTRY}/uv:{uv_version(_uv())}"


def _uv() -> Path:
    uv = find_uv()
    if uv is None:
        raise ImageError(
            "no `uv` on this machine: run this through `make`, which installs it, or `pip install uv`"
        )
    return uv


def _uv_image(store: Store) -> str:
    """An image that holds uv alone: this machine's own, which runs in any base and needs no registry."""
    reference = _uv_reference()
    if store.image_id(reference) is None:
        container = store.buildah("from", "scratch", step="uv")
        store.buildah("copy", "--chmod", "0755", container, str(_uv()), "/uv", step="uv")
        store.buildah("commit", "--rm", container, reference, step="uv")
        store.drop_others(reference)
    return reference


def _folder(store: Store, plan: Plan, label: str, say: Say) -> Path:
    """The image's folder, built of the sources as they are at this moment where there is none."""
    with tempfile.TemporaryDirectory(dir=store.folder / "tmp") as temporary:
        sources = Path(temporary)
        snapshot(plan.image, sources)
        folder = plan.folder(sources)
        if folder.is_dir():
            folder.touch()
            say(f"{label}: unchanged")
        else:
            _build(store, plan, sources, label, say)
    return folder


def _build(store: Store, plan: Plan, sources: Path, label: str, say: Say) -> None:
    recipe, folder = plan.recipe(sources), plan.folder(sources)
    if recipe.below:
        _have_layers(store, recipe.below, say)
    say(f"{label}: building")
    took = _run_build(store, recipe, label, say)
    write_folder(store, plan.reference, folder, step=f"{label}: writing it out")
    store.buildah("rmi", "--force", plan.reference, step=f"{label}: clearing the store")
    _drop_old_folders(store, folder)
    say(f"{label}: built in {took:.0f} s, {megabytes(folder):.0f} MB")


def _have_layers(store: Store, recipe: Recipe, say: Say) -> None:
    """Build what images start from into the store, where that has it not; those before it are dropped."""
    if store.image_id(recipe.reference):
        return
    say(f"{recipe.image.name}: building, for images to share")
    took = _run_build(store, recipe, recipe.image.name, say)
    store.drop_others(recipe.reference, newest=OTHER_LAYERS_KEPT)
    say(f"{recipe.image.name}: built in {took:.0f} s")


def _run_build(store: Store, recipe: Recipe, label: str, say: Say) -> float:
    """Into the store; the seconds it took."""
    arguments = recipe.arguments
    if below := recipe.below:
        arguments = {**arguments, below.image.name.upper(): below.reference}
    with tempfile.TemporaryDirectory(dir=store.folder / "tmp") as folder:
        index = Path(folder) / "uv.toml"
        index.write_text(index_settings())
        secrets = [f"id=uv,src={index}"]
        if bundle := certificates():
            secrets.append(f"id=ca,src={bundle}")
        options = [f"--secret={secret}" for secret in secrets]
        options += [f"--build-arg={name}={value}" for name, value in arguments.items()]
        command = store.command(
            "bud", "--isolation", "chroot", "--network", "host", "--format", "oci", *options
        )
        command += ["--file", str(recipe.sources / recipe.image.containerfile), "--tag", recipe.reference]
        return store.run_long([*command, str(recipe.sources)], label=label, log=recipe.image.name, say=say)


def _push(store: Store, plan: Plan, folder: Path, registry: str, say: Say) -> None:
    """Push the folder's image: the store has none of those that are built."""
    target = plan.image.reference(plan.version, registry.rstrip("/"))
    image_id = pull_folder(store, folder, step=f"push {plan.image.name}")
    command = store.command("push", *plain_http(target), image_id, f"docker://{target}")
    took = store.run_long(command, label=f"push {target}", log=f"push-{plan.image.name}", say=say)
    store.buildah("rmi", "--force", image_id, step=f"push {plan.image.name}")
    say(f"pushed {target} in {took:.0f} s")


def _drop_old_folders(store: Store, folder: Path) -> None:
    """Of one image keep the newest, and those that somebody may be about to load.

    Each loses its name first: what is killed while it removes files leaves no folder that seems to be whole.
    Files are what older checkouts made.
    """
    stem, _, key = folder.name.rpartition("-")
    same = f"{stem}-{'?' * len(key)}"
    found = [*folder.parent.glob(same), *folder.parent.glob(f"{same}.tar")]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for old in found[FOLDERS_KEPT:]:
        if time.time() - old.stat().st_mtime > KEPT_SECONDS:
            with tempfile.TemporaryDirectory(dir=store.folder / "tmp") as unnamed:
                old.rename(Path(unnamed) / old.name)


@contextmanager
def _locked_store(say: Say) -> Iterator[Store]:
    if os.geteuid() != 0:
        raise ImageError("building images needs root: run it with sudo, or on a machine of your own")
    folder = image_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another build of images holds {folder / 'lock'}: waiting for it to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        store = Store(folder / "store")
        store.recover()
        yield store
