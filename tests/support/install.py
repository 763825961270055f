"""`helm install` of the project's chart, as the demo and the end-to-end tests do it."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

CHART = Path(__file__).resolve().parents[2] / "charts/roundhouse"
INSTALL_SECONDS = 300


class InstallError(Exception):
    """Helm could not install the chart; the message is what Helm said."""


def install_chart(
    environment: Mapping[str, str], *, namespace: str, release: str = "roundhouse", values: Mapping[str, str]
) -> None:
    """Install or upgrade the chart and wait until operator and gateway are ready.

    `environment` holds KUBECONFIG and a PATH with helm; `values` are chart values by dotted name.
    """
    command = ["helm", "upgrade", "--install", release, str(CHART), "--namespace", namespace]
    # The CRDs outlive a release; taking ownership adopts those that another one, or kubectl, left.
    command += ["--create-namespace", "--take-ownership", "--wait", "--timeout", f"{INSTALL_SECONDS}s"]
    for name, value in values.items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip()
        raise InstallError(f"`{' '.join(command)}` ended with exit status {done.returncode}:\n{said}")
