"""The cluster's certificate authority, certificates and kubeconfigs.

Decides who exists and under which names; openssl makes the keys. Everything is made anew for each bring-up
and goes with the state folder.
"""

import base64
import json
from pathlib import Path

from .addresses import NODE_NAME, Addresses
from .config import api_url
from .layout import Layout
from .processes import run

DAYS = "3650"

# Kubeconfig user → certificate subject, which is what RBAC and the node authorizer go by.
CLIENTS = {
    "admin": "/O=system:masters/CN=roundhouse-local-admin",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "kubelet": f"/O=system:nodes/CN=system:node:{NODE_NAME}",
    "proxy": "/CN=system:kube-proxy",
}


def server_names(addresses: Addresses) -> str:
    """The subject alternative names of the API server's and the kubelet's certificate."""
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names += ["kubernetes.default.svc.cluster.local", NODE_NAME]
    ips = ["127.0.0.1", addresses.node_address, addresses.kubernetes_service]
    return ",".join([*(f"DNS:{name}" for name in names), *(f"IP:{ip}" for ip in ips)])


def kubeconfig(server: str, authority: bytes, certificate: bytes, key: bytes) -> str:
    """A kubeconfig that holds all it needs, as JSON (which is YAML)."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "roundhouse-local",
            "clusters": [
                {
                    "name": "roundhouse-local",
                    "cluster": {"server": server, "certificate-authority-data": _encode(authority)},
                }
            ],
            "users": [
                {
                    "name": "admin",
                    "user": {
                        "client-certificate-data": _encode(certificate),
                        "client-key-data": _encode(key),
                    },
                }
            ],
            "contexts": [
                {"name": "roundhouse-local", "context": {"cluster": "roundhouse-local", "user": "admin"}}
            ],
        },
        indent=1,
    )


def make_pki(layout: Layout) -> None:
    """Keys and certificates under `pki/`, and the kubeconfig of every user."""
    pki = layout.pki
    pki.mkdir(mode=0o700)
    _openssl(
        pki, *_new_key("ca"), "-x509", "-days", DAYS, "-subj", "/CN=roundhouse-local-ca", "-out", "ca.crt"
    )
    _openssl(pki, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "service-account.key")
    _openssl(pki, "ec", "-in", "service-account.key", "-pubout", "-out", "service-account.pub")
    names = server_names(layout.addresses)
    _certificate(pki, "apiserver", "/CN=kube-apiserver", names)
    _certificate(pki, "kubelet-server", f"/CN={NODE_NAME}", names)
    authority = (pki / "ca.crt").read_bytes()
    for user, subject in CLIENTS.items():
        _certificate(pki, user, subject, names)
        pair = (pki / f"{user}.crt").read_bytes(), (pki / f"{user}.key").read_bytes()
        _write(layout.inner_kubeconfig(user), kubeconfig(api_url(layout), authority, *pair))
        if user == "admin":
            _write(layout.kubeconfig, kubeconfig(layout.addresses.api_url, authority, *pair))


def _certificate(pki: Path, name: str, subject: str, names: str) -> None:
    _openssl(pki, *_new_key(name), "-subj", subject, "-out", f"{name}.csr")
    (pki / "extensions").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
    authority = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", DAYS)
    _openssl(
        pki, "x509", "-req", "-in", f"{name}.csr", *authority, "-extfile", "extensions", "-out", f"{name}.crt"
    )


def _new_key(name: str) -> tuple[str, ...]:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    return ("req", *curve, "-keyout", f"{name}.key")


def _openssl(folder: Path, *arguments: str) -> None:
    run("openssl", *arguments, folder=folder)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
