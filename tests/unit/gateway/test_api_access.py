"""A pod's service account: its address, its token that changes, and what is said where it is not whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from roundhouse_gateway import api_access
from roundhouse_gateway.api_access import ClusterError, ServiceAccount, find
from tests.support.tls import Authority

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_text(Authority(tmp_path).pem)
    return tmp_path


async def test_in_a_pod_the_service_account_is_used(account: Path) -> None:
    access = await find(POD, account)
    assert (access.host, await access.authorization()) == ("https://10.0.0.1:443", "Bearer first")
    assert len(access.ssl.get_ca_certs()) == 1, "the cluster's own authority alone"
    assert access.ssl.check_hostname


def test_an_address_of_ipv6_stands_in_brackets(account: Path) -> None:
    assert (
        ServiceAccount({**POD, "KUBERNETES_SERVICE_HOST": "fd00::1"}, account).host == "https://[fd00::1]:443"
    )


async def test_a_token_that_the_kubelet_has_replaced_is_read(
    account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = ServiceAccount(POD, account)
    (account / "token").write_text("second")
    assert await access.authorization() == "Bearer first", "not read for each request"
    monkeypatch.setattr(api_access, "TOKEN_SECONDS", -1.0)
    assert await access.authorization() == "Bearer second"


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("token", None, "token cannot be read: "),
        ("token", " \n", "token is empty."),
        ("ca.crt", None, "ca.crt cannot be read: "),
        ("ca.crt", "no certificate", "ca.crt cannot be read: "),
    ],
)
def test_an_account_that_is_not_whole(account: Path, file: str, text: str | None, said: str) -> None:
    (account / file).unlink()
    if text is not None:
        (account / file).write_text(text)
    with pytest.raises(ClusterError, match="no way to the API server: ") as error:
        ServiceAccount(POD, account)
    assert f"{account / file}"[: -len(file)] + said in str(error.value)
    assert str(error.value).endswith("Set KUBECONFIG, or run in a pod with a service account.")


async def test_a_kubeconfig_goes_before_the_account(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig = account / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with pytest.raises(ClusterError, match="no way to the API server: "):
        await find({**POD, "KUBECONFIG": str(kubeconfig)}, account)


def test_a_gateway_in_a_pod_does_without_the_kubernetes_package() -> None:
    code = "import sys, roundhouse_gateway.cli; print('kubernetes' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
