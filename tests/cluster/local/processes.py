"""Runs commands to their end and gives what they print. A failure is a ClusterError with their words."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .errors import ClusterError

COMMAND_SECONDS = 400
"""Longer than any that is told to wait, so that it says itself what it waited for."""


def say_to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(
    *argv: str, stdin: str = "", environment: dict[str, str] | None = None, folder: Path | None = None
) -> str:
    try:
        result = subprocess.run(
            argv,
            input=stdin,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
    except OSError as error:
        raise ClusterError(f"{argv[0]!r} cannot be run: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{' '.join(argv)!r} did not end within {COMMAND_SECONDS} s") from error
    if result.returncode:
        said = (result.stderr or result.stdout).strip()
        raise ClusterError(f"{' '.join(argv)!r} ended with {result.returncode}: {said}")
    return result.stdout


def kubectl(binaries: Path, kubeconfig: Path | None, *arguments: str, stdin: str = "") -> str:
    """Kubectl of the cache. Without a kubeconfig it looks for one where kubectl does."""
    chosen = {"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}
    return run(str(binaries / "kubectl"), *arguments, stdin=stdin, environment=os.environ | chosen)


def kubectl_json(binaries: Path, kubeconfig: Path, *arguments: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(kubectl(binaries, kubeconfig, *arguments, "--output=json"))
    return parsed
