"""The Debian packages that a cluster needs: which are missing, and the one step that installs them."""

import os
import shutil
from pathlib import Path

from tests.support import packages as debian
from tests.support.progress import Say

from .errors import ClusterError
from .layout import Mode

# Command → package that has it.
CONTROL_PLANE_COMMANDS = {"ip": "iproute2", "nsenter": "util-linux", "openssl": "openssl"}
NODE_COMMANDS = {"containerd": "containerd", "ctr": "containerd", "runc": "runc", "nft": "nftables"}
CNI_PACKAGE = "containernetworking-plugins"
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))

_SEARCHED = os.pathsep.join(("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"))


def missing_packages(mode: Mode) -> list[str]:
    """Those whose commands a cluster of this mode needs and this machine lacks."""
    commands = CONTROL_PLANE_COMMANDS | (NODE_COMMANDS if mode == "full" else {})
    missing = {package for command, package in commands.items() if not shutil.which(command, path=_SEARCHED)}
    if mode == "full" and _found_cni_folder() is None:
        missing.add(CNI_PACKAGE)
    return sorted(missing)


def require_packages(mode: Mode) -> None:
    missing = missing_packages(mode)
    if missing:
        raise ClusterError(
            f"a {mode} cluster needs the Debian packages {' '.join(missing)}, which this machine lacks. "
            f"Install them with `python -m tests.cluster.local install`, or their like of your distribution."
        )


def install_packages(mode: Mode, say: Say) -> None:
    """Install what is missing, in one step that says what it does before it does it."""
    missing = missing_packages(mode)
    if not missing:
        say("every system package that a cluster needs is installed")
        return
    try:
        debian.install(missing, purpose="a local cluster")
    except debian.PackagesError as error:
        raise ClusterError(str(error)) from error


def cni_folder() -> str:
    """Where the plugins that join pods to the network are."""
    found = _found_cni_folder()
    if found is None:
        raise ClusterError(f"no CNI plugins in {' or '.join(map(str, CNI_FOLDERS))}: install {CNI_PACKAGE}")
    return str(found)


def _found_cni_folder() -> Path | None:
    return next((folder for folder in CNI_FOLDERS if (folder / "ptp").exists()), None)
