"""A pod that has a model hears a person's recording with it."""

from __future__ import annotations

import urllib.request

from tests.cluster.operator.harness import Kubectl
from tests.cluster.weights.conftest import REPO
from tests.support.recordings import go_forward

BOUNDARY = "test-boundary"


def heard(kubectl: Kubectl, selector: str, model: str = REPO) -> str:
    """What the one pod hears, with that model."""
    [pod] = [one for one in kubectl.list("pods", selector) if "deletionTimestamp" not in one["metadata"]]
    fields = {"model": model, "response_format": "text"}
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'.encode()
    body = b"".join([*parts, head, go_forward(), f"\r\n--{BOUNDARY}--\r\n".encode()])
    request = urllib.request.Request(
        f"http://{pod['status']['podIP']}:8000/v1/audio/transcriptions",
        data=body,
        headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  # a pod of the test's own
        return str(answer.read().decode().strip())
