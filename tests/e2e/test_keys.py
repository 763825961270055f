"""API keys as people meet them: the chart asks for them, a command makes them, kubectl revokes them."""

import io
import subprocess
import sys
from collections.abc import Iterator

import pytest
from openai import AuthenticationError, OpenAI, PermissionDeniedError

from tests.cluster.local import Cluster
from tests.e2e.conftest import NAMESPACE
from tests.e2e.release import Release
from tests.support.install import install_chart
from tests.support.recordings import GO_FORWARD_WORDS, go_forward
from tests.support.waiting import wait_until

KEYS = "roundhouse-keys"


@pytest.fixture
def guarded(cluster: Cluster, release: Release, pocketsphinx: str) -> Iterator[str]:
    """A release that asks for keys; the model's public id."""
    cluster.kubectl("create", "namespace", KEYS)
    guarded = {**release.values, "gateway.keysNamespace": KEYS}
    install_chart(cluster.environment, namespace=NAMESPACE, values=guarded)
    yield pocketsphinx
    install_chart(cluster.environment, namespace=NAMESPACE, values=release.values)
    cluster.kubectl("delete", "namespace", KEYS, "--wait=false")
    release.answers_again(pocketsphinx)


def create_key(cluster: Cluster, *options: str) -> str:
    command = [sys.executable, "-m", "roundhouse_operator.cli", "key", "create", *options]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    cluster.kubectl("apply", "--namespace", KEYS, "-f", "-", input=made.stdout)
    return made.stderr.strip()


@pytest.mark.req("S1-5")
def test_a_key_opens_the_gateway_until_its_secret_is_deleted(
    cluster: Cluster, release: Release, guarded: str
) -> None:
    key = create_key(cluster, "--name", "developer")
    lists_only = create_key(cluster, "--name", "reader", "--scope", "models")

    def transcribe(text: str) -> str:
        with OpenAI(base_url=f"{release.url}/v1", api_key=text, max_retries=0) as client:
            recording = ("a.wav", io.BytesIO(go_forward()))
            return client.audio.transcriptions.create(model=guarded, file=recording).text

    def heard_with(text: str) -> str:
        """Or why not."""
        try:
            return transcribe(text)
        except (AuthenticationError, PermissionDeniedError) as error:
            return str(error)

    wait_until(lambda: heard_with(key) == GO_FORWARD_WORDS, seconds=60, what="the new key opens the gateway")
    with pytest.raises(AuthenticationError, match="is not valid"):
        transcribe("rh_nobodyskey000_" + "0" * 48)
    refused = "has not the scope 'transcribe'"
    wait_until(lambda: refused in heard_with(lists_only), seconds=60, what="the other one opens less")
    cluster.kubectl("delete", "secret", "developer", "--namespace", KEYS)

    wait_until(lambda: "is not valid" in heard_with(key), seconds=60, what="the deleted key is refused")
