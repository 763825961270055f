"""The image that all others stand on: Python 3.11 on Debian 12.

Taken, in this order: what ROUNDHOUSE_IMAGE_BASE names; what is in the store already; the pinned image that
the Containerfiles name, where its registry answers; one made here of Debian's packages in their latest
security state, without documentation, translations and a package manager.
"""

import hashlib
import os
import platform
import re
import shlex
import subprocess
import urllib.error
import urllib.request

from tests.support.progress import Say

from .definitions import LOCAL_REGISTRY
from .store import ImageError, Store

SUITE = "bookworm"
PACKAGES = ("usr-is-merged", "python3", "ca-certificates", "libgomp1", "libstdc++6")
MIRRORS = (
    f"deb http://deb.debian.org/debian {SUITE} main",
    f"deb http://deb.debian.org/debian {SUITE}-updates main",
    f"deb http://deb.debian.org/debian-security {SUITE}-security main",
)
# The last: Python brings its own codecs, and nothing else here converts between character sets.
LEFT_OUT = (
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/lib/*/gconv/*",
)
KEPT = ("/usr/share/doc/*/copyright",)
# The making machine's own name, resolver and logs have no business in an image.
TRACES = ("etc/resolv.conf", "etc/hostname", "var/cache/debconf/*-old", "var/lib/dpkg/*-old", "var/log/*.log")
# Without it `init-system-helpers` pulls in `usrmerge`, and with it all of Perl.
MERGED_USR_HOOK = "/usr/share/mmdebstrap/hooks/merged-usr"
REGISTRY_PROBE = "https://registry-1.docker.io/v2/"
PROBE_SECONDS = 5


def choose_base(store: Store, pinned: str, say: Say, *, refresh: bool = False) -> str:
    """The id of the image to build on, fetched or made first if need be; `refresh` does so in any case."""
    if not refresh and (found := known_base(store, pinned)):
        return found
    if named := _named():
        return _pulled(store, named, say)
    if _registry_answers():
        try:
            return _pulled(store, _by_digest(pinned), say)
        except ImageError as error:
            say(
                f"base: the registry answers but does not give the image, so it is made here instead; {error}"
            )
    return _made(store, _made_reference(), say)


def known_base(store: Store, pinned: str) -> str | None:
    """The id of the image to build on if the store has it already."""
    if named := _named():
        return store.image_id(named)
    return store.image_id(_made_reference()) or store.image_id(_by_digest(pinned))


def made_here(store: Store) -> bool:
    """Whether images stand on a base of our making: another's may have a package manager, and pip."""
    return not _named() and store.image_id(_made_reference()) is not None


def _named() -> str | None:
    named = os.environ.get("ROUNDHOUSE_IMAGE_BASE")
    return _by_digest(named) if named else None


def _made_reference() -> str:
    return f"{LOCAL_REGISTRY}/base:{_definition_key()}"


def _by_digest(reference: str) -> str:
    """Without its tag where it has a digest too: the digest decides, and buildah takes one of them."""
    return re.sub(r":[^:/@]+@", "@", reference)


def _pulled(store: Store, reference: str, say: Say) -> str:
    say(f"base: fetching {reference}")
    command = store.command("pull", *plain_http(reference), reference)
    took = store.run_long(command, label="base: fetching", log="base", say=say)
    say(f"base: fetched in {took:.0f} s")
    found = store.image_id(reference)
    if found is None:
        raise ImageError(
            f"base: {reference!r} was fetched but is not in the store: give it with its tag or digest"
        )
    return found


def plain_http(reference: str) -> list[str]:
    """A registry on this very machine has no certificate; every other one needs one."""
    host = reference.partition("/")[0].rsplit(":", 1)[0]
    return ["--tls-verify=false"] if host in {"127.0.0.1", "localhost", "[::1]"} else []


def _made(store: Store, reference: str, say: Say) -> str:
    say(f"base: no registry in reach, so it is made of Debian {SUITE} packages: {', '.join(PACKAGES)}")
    archive = store.folder / "tmp" / "base.tar"
    archive.unlink(missing_ok=True)
    took = store.run_long(_mmdebstrap(str(archive)), label="base", log="base", say=say)
    container = store.buildah("from", "scratch", step="base")
    store.buildah("add", container, str(archive), "/", step="base")
    store.buildah("config", "--cmd", "python3", container, step="base")
    store.buildah("commit", "--rm", container, reference, step="base")
    store.drop_others(reference)
    say(f"base: made in {took:.0f} s, {archive.stat().st_size / 1e6:.0f} MB")
    archive.unlink()
    found = store.image_id(reference)
    if found is None:
        raise ImageError(f"base: {reference!r} was made but is not in the store {store.folder}")
    return found


def _mmdebstrap(archive: str) -> list[str]:
    command = ["mmdebstrap", "--mode=root", "--variant=essential", f"--include={','.join(PACKAGES)}"]
    command += [f"--hook-dir={MERGED_USR_HOOK}"]
    command += [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT]
    command += [f"--dpkgopt=path-include={path}" for path in KEPT]
    command += [f"--aptopt={setting}" for setting in _apt_transport()]
    command += ['--customize-hook=cd "$1" && rm -f ' + " ".join(TRACES)]
    return [*command, SUITE, archive, *MIRRORS]


def _apt_transport() -> list[str]:
    """How this machine's apt reaches a mirror: proxies and certificates, not its own package sources."""
    wanted = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::https::CaInfo")
    shown = subprocess.run(
        ["apt-config", "dump", *wanted], capture_output=True, text=True, check=False
    ).stdout
    return [
        line.rstrip(";") for line in shown.splitlines() if shlex.split(line.rstrip(";"))[1:] not in ([], [""])
    ]


def _definition_key() -> str:
    definition = repr((SUITE, PACKAGES, MIRRORS, LEFT_OUT, KEPT, TRACES, platform.machine()))
    return hashlib.sha256(definition.encode()).hexdigest()[:12]


def _registry_answers() -> bool:
    try:
        with urllib.request.urlopen(REGISTRY_PROBE, timeout=PROBE_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # 401: it asks for a token, which buildah fetches
    except OSError:
        return False
