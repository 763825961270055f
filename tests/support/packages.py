"""Debian packages that the project's tools need, installed in one visible step.

Leaves alone what is already installed, whoever installed it, and never removes anything.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable


class PackagesError(Exception):
    """Packages are missing and cannot be installed here."""


def missing(packages: Iterable[str]) -> list[str]:
    """Which of `packages` are not installed, sorted."""
    wanted = sorted(set(packages))
    if shutil.which("dpkg-query") is None:
        return wanted
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *wanted]
    shown = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    installed = {line.split()[0] for line in shown.splitlines() if line.endswith(" installed")}
    return [package for package in wanted if package not in installed]


def install(packages: Iterable[str], *, purpose: str) -> None:
    """Install what is missing of `packages` with apt-get, saying what and why first."""
    absent = missing(packages)
    if not absent:
        return
    names = " ".join(absent)
    print(f"Installing Debian packages for {purpose}: {names}", flush=True)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise PackagesError(
            f"{purpose} needs the packages {names}: install them, or run this as root on Debian"
        )
    apt = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    steps = (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *absent],
    )
    for step in steps:
        done = subprocess.run(step, env=apt, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
            raise PackagesError(f"`{' '.join(step)}` failed with exit status {done.returncode}:\n{tail}")
