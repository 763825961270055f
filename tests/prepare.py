"""`python -m tests.prepare`: bring this machine to where every test can run.

Installs Debian packages, builds the cluster's binaries and the container images into the cache, and says
how long it took. What is there already is left as it is, so a second call takes seconds. `--no-images`
leaves out the images, for what runs without a single one, and `--packages` all but the packages.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from tests.support.packages import PackagesError, install

ROOT = Path(__file__).resolve().parents[1]
SPEECH_PACKAGES = ("flite", "pocketsphinx-testdata", "sox")
CLIENT_PACKAGES = ("curl",)
# Holds the server as well, without making a service of it.
STORE_PACKAGES = ("redis-tools",)


def run(*module_and_arguments: str) -> None:
    """Run a module of the project, which speaks for itself; end with its status if it fails."""
    status = subprocess.run([sys.executable, "-m", *module_and_arguments], cwd=ROOT, check=False).returncode
    if status != 0:
        sys.exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.prepare")
    parser.add_argument("--no-images", action="store_true", help="build no container images")
    parser.add_argument("--packages", action="store_true", help="install Debian packages and nothing else")
    options = parser.parse_args()
    started = time.monotonic()
    try:
        install((*SPEECH_PACKAGES, *CLIENT_PACKAGES), purpose="the speech that the tests transcribe")
        install(STORE_PACKAGES, purpose="limits that several gateways keep together")
    except PackagesError as error:
        sys.exit(f"error: {error}")
    if not options.packages:
        run("tests.cluster.local", "install")
        run("tests.cluster.local", "build")
        if not options.no_images:
            run("tests.images", "build")
    print(f"Prepared for the tests in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
