"""Builds images into archives in the cache, and pushes them. Skips what is built already.

An archive's name holds the key of what went in, so it is there whole and right, or not at all; several
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

from .base import choose_base, plain_http
from .definitions import IMAGES, LOCAL_REGISTRY, ROOT, Image, argument_default, build_key, project_version
from .host import certificates, find_uv, index_settings, uv_version
from .store import ImageError, Store

DEBIAN_PACKAGES = ("buildah", "mmdebstrap", "debian-archive-keyring", "ca-certificates")
ARCHIVES_KEPT = 2  # of each image: so many checkouts can take turns without building anew


@dataclass(frozen=True, slots=True)
class Plan:
    """One image to have: what to call it, where its archive goes, and what its build is told."""

    image: Image
    reference: str
    archive: Path
    arguments: dict[str, str]

    @property
    def built(self) -> bool:
        return self.archive.is_file()


def image_folder() -> Path:
    return cache_root() / "images"


def build_images(
    images: Sequence[Image] = IMAGES, *, push: str | None = None, refresh_base: bool = False, say: Say
) -> dict[str, Path]:
    """Have an archive of each image, and push them where `push` names a registry; the archives by name."""
    try:
        install(DEBIAN_PACKAGES, purpose="building container images")
    except PackagesError as error:
        raise ImageError(str(error)) from error
    began = time.monotonic()
    with _locked_store(say) as store:
        plans = _plans(store, images, say, refresh_base=refresh_base)
        for index, plan in enumerate(plans, start=1):
            label = f"[{index}/{len(plans)}] {plan.image.name}"
            if plan.built:
                plan.archive.touch()
                say(f"{label}: unchanged")
            else:
                _build(store, plan, label, say)
        store.prune()
        for plan in plans if push else ():
            _push(store, plan, str(push), say)
    say(f"images ready in {time.monotonic() - began:.0f} s, archives in {image_folder()}")
    return {plan.image.name: plan.archive for plan in plans}


def archive_paths(images: Sequence[Image] = IMAGES) -> dict[str, Path]:
    """The archives of the images as the sources are now; ImageError names the first that is not built."""
    with _locked_store(print) as store:
        plans = _plans(store, images, print)
    for plan in plans:
        if not plan.built:
            raise ImageError(
                f"image {plan.image.name!r} is not built as the sources are now: run `make images`"
            )
    return {plan.image.name: plan.archive for plan in plans}


def _plans(store: Store, images: Sequence[Image], say: Say, *, refresh_base: bool = False) -> list[Plan]:
    texts = {image: (ROOT / image.containerfile).read_text() for image in images}
    pinned = {argument_default(text, "BASE") for text in texts.values()}
    if len(pinned) != 1:
        raise ImageError(
            f"the Containerfiles name different bases, so no layer can be shared: {sorted(pinned)}"
        )
    base = choose_base(store, pinned.pop(), say, refresh=refresh_base)
    version, uv = project_version(), _uv_image(store)
    plans = []
    for image in images:
        arguments = {"BASE": base, "UV": uv, "VERSION": version}
        key = build_key(image, arguments)
        archive = image_folder() / f"{image.name}-{version}-{key}.tar"
        plans.append(Plan(image, image.reference(version), archive, arguments))
    return plans


def _uv_image(store: Store) -> str:
    """An image that holds uv alone: this machine's own, which runs in any base and needs no registry."""
    uv = find_uv()
    if uv is None:
        raise ImageError(
            "no `uv` on this machine: run this through `make`, which installs it, or `pip install uv`"
        )
    reference = f"{LOCAL_REGISTRY}/uv:{uv_version(uv)}"
    if store.image_id(reference) is None:
        container = store.buildah("from", "scratch", step="uv")
        store.buildah("copy", "--chmod", "0755", container, str(uv), "/uv", step="uv")
        store.buildah("commit", "--rm", container, reference, step="uv")
        store.drop_others(reference)
    return reference


def _build(store: Store, plan: Plan, label: str, say: Say) -> None:
    say(f"{label}: building")
    with tempfile.TemporaryDirectory(dir=store.folder / "tmp") as folder:
        index = Path(folder) / "uv.toml"
        index.write_text(index_settings())
        secrets = [f"id=uv,src={index}"]
        if bundle := certificates():
            secrets.append(f"id=ca,src={bundle}")
        options = [f"--secret={secret}" for secret in secrets]
        options += [f"--build-arg={name}={value}" for name, value in plan.arguments.items()]
        command = store.command(
            "bud", "--isolation", "chroot", "--network", "host", "--format", "oci", *options
        )
        command += ["--file", str(ROOT / plan.image.containerfile), "--tag", plan.reference, str(ROOT)]
        took = store.run_long(command, label=label, log=plan.image.name, say=say)
    unfinished = plan.archive.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    target = f"docker-archive:{unfinished}:{plan.reference}"
    store.buildah("push", plan.reference, target, step=f"{label}: writing the archive")
    unfinished.replace(plan.archive)
    _drop_old_archives(plan.archive.parent, plan.image.name)
    say(f"{label}: built in {took:.0f} s, {plan.archive.stat().st_size / 1e6:.0f} MB")


def _push(store: Store, plan: Plan, registry: str, say: Say) -> None:
    """Push the archive's image: the store may by now have another checkout's under that name."""
    target = plan.image.reference(project_version(), registry.rstrip("/"))
    image_id = store.buildah(
        "pull", "--quiet", f"docker-archive:{plan.archive}", step=f"push {plan.image.name}"
    )
    command = store.command("push", *plain_http(target), image_id.split()[-1], f"docker://{target}")
    took = store.run_long(command, label=f"push {target}", log=f"push-{plan.image.name}", say=say)
    say(f"pushed {target} in {took:.0f} s")


def _drop_old_archives(folder: Path, name: str) -> None:
    archives = sorted(folder.glob(f"{name}-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in archives[ARCHIVES_KEPT:]:
        old.unlink()


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
