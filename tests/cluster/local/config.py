"""Renders the command lines of the control plane. Pure: layout in, argument lists out.

All of it runs inside the cluster's own network namespace, so every component has its usual port, on that
namespace's loopback or on the node's address, and none can clash with anything on the machine.
"""

from dataclasses import dataclass

from .addresses import API_PORT
from .layout import Layout

FAKE_NODE_ANNOTATION = "kwok.x-k8s.io/node=fake"
SERVICE_ACCOUNT_ISSUER = "https://kubernetes.default.svc.cluster.local"

# What the cluster's processes see of the person's environment: nothing. A proxy would catch their calls.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

# The default of 20 requests a second makes a thousand fake pods ready in minutes instead of seconds.
_CLIENT_RATE = ["--kube-api-qps=1000", "--kube-api-burst=2000"]


@dataclass(frozen=True, slots=True)
class Component:
    """A process that the supervisor keeps running."""

    name: str
    argv: tuple[str, ...]
    health_url: str | None = None


def api_url(layout: Layout) -> str:
    """The API server's address as seen from inside the cluster."""
    return f"https://{layout.addresses.node_address}:{API_PORT}"


def etcd(layout: Layout) -> Component:
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    argv = (
        layout.binary("etcd"),
        f"--data-dir={layout.state / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        # What this store holds is thrown away with the cluster: durability would only cost time.
        "--unsafe-no-fsync",
        "--log-level=warn",
    )
    return Component("etcd", argv, health_url=f"{client}/health")


def api_server(layout: Layout) -> Component:
    addresses, pki = layout.addresses, layout.pki
    argv = (
        layout.binary("kube-apiserver"),
        "--etcd-servers=http://127.0.0.1:2379",
        f"--bind-address={addresses.node_address}",
        f"--advertise-address={addresses.node_address}",
        f"--secure-port={API_PORT}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--service-account-key-file={pki / 'service-account.pub'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
        f"--service-account-issuer={SERVICE_ACCOUNT_ISSUER}",
        f"--service-cluster-ip-range={addresses.services}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--kubelet-client-certificate={pki / 'admin.crt'}",
        f"--kubelet-client-key={pki / 'admin.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        # The node's name is in no DNS that the API server asks.
        "--kubelet-preferred-address-types=InternalIP",
    )
    return Component("kube-apiserver", argv)


def controller_manager(layout: Layout) -> Component:
    argv = (
        layout.binary("kube-controller-manager"),
        f"--kubeconfig={layout.inner_kubeconfig('controller-manager')}",
        f"--service-account-private-key-file={layout.pki / 'service-account.key'}",
        f"--root-ca-file={layout.pki / 'ca.crt'}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--node-monitor-grace-period=5m",  # of 50 s: machines of tests stand still at times
        "--horizontal-pod-autoscaler-sync-period=3s",  # of fifteen, for which each step would be waited
        *_CLIENT_RATE,
    )
    return Component("kube-controller-manager", argv, health_url="https://127.0.0.1:10257/healthz")


def scheduler(layout: Layout) -> Component:
    argv = (
        layout.binary("kube-scheduler"),
        f"--kubeconfig={layout.inner_kubeconfig('scheduler')}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        *_CLIENT_RATE,
    )
    return Component("kube-scheduler", argv, health_url="https://127.0.0.1:10259/healthz")


def kwok(layout: Layout) -> Component:
    argv = (
        layout.binary("kwok"),
        f"--kubeconfig={layout.inner_kubeconfig('admin')}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={FAKE_NODE_ANNOTATION}",
        f"--cidr={layout.addresses.fake_pods}",
        f"--node-ip={layout.addresses.node_address}",
        "--node-lease-duration-seconds=40",
    )
    return Component("kwok", argv)


def api_forwarder(layout: Layout) -> Component:
    """Joins the machine's loopback with the API server; its listening socket is handed to it."""
    return Component("forward-api", (layout.binary("forward"), f"{layout.addresses.node_address}:{API_PORT}"))
