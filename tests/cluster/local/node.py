"""Renders the configuration of the real node: containerd, kubelet, kube-proxy, pod network, DNS. Pure.

Pods are joined to the node by routed point-to-point links and not by a Linux bridge: an answer to a Service
then always passes the node's address translation, which a bridge only grants where the machine has
`br_netfilter` on.
"""

import json
from typing import Any

from .addresses import NODE_NAME, Addresses
from .config import Component
from .layout import Layout

Manifest = dict[str, Any]

PAUSE_IMAGE = "localhost/roundhouse-local/pause:1"
COREDNS_IMAGE = "localhost/roundhouse-local/coredns:1"
PROBE_IMAGE = "localhost/roundhouse-local/probe:1"
CLUSTER_DOMAIN = "cluster.local"
PODS_PER_NODE = 250


def containerd_socket(layout: Layout) -> str:
    return str(layout.state / "containerd.sock")


def client(layout: Layout) -> tuple[str, ...]:
    """Containerd's client, in the containerd namespace that holds the kubelet's images."""
    return ("ctr", "--address", containerd_socket(layout), "--namespace", "k8s.io")


def containerd_config(layout: Layout, cni_folder: str, snapshotter: str) -> str:
    """Everything it writes is in the state folder.

    `restrict_oom_score_adj`: without CAP_SYS_RESOURCE runc could not lower the score and would die.
    `disable_apparmor`: a profile that it loads would stay in the kernel when the cluster is gone.
    """
    own = layout.state / "containerd"
    return f"""version = 2
root = "{own / "root"}"
state = "{own / "state"}"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{containerd_socket(layout)}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{own / "opt"}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_folder}"
    conf_dir = "{layout.state / "cni"}"
"""


def pod_network(layout: Layout) -> Manifest:
    pods = layout.addresses.pods
    addresses = {
        "type": "host-local",
        "dataDir": str(layout.state / "cni-leases"),
        "ranges": [[{"subnet": str(pods), "gateway": str(pods[1])}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    links = {"type": "ptp", "ipMasq": False, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [links, ports]}


def kubelet_config(layout: Layout, *, cgroup_v1: bool) -> Manifest:
    """Its cgroups are under the cluster's own root: kubelets that share one end each other's pods."""
    state, addresses = layout.state, layout.addresses
    low_disk = {"nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%"}
    settings: Manifest = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "address": str(addresses.node_address),
        "readOnlyPort": 0,
        "healthzPort": 10248,
        "tlsCertFile": str(layout.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{containerd_socket(layout)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{addresses.cgroup}",
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "maxPods": PODS_PER_NODE,
        "clusterDNS": [str(addresses.dns_service)],
        "clusterDomain": CLUSTER_DOMAIN,
        "podLogsDir": str(state / "pod-logs"),
        "volumePluginDir": str(state / "volume-plugins"),
        "makeIPTablesUtilChains": False,
        # There is no registry to pull a collected image from again.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", **low_disk},
    }
    return settings | ({"failCgroupV1": False} if cgroup_v1 else {})


def proxy_config(layout: Layout) -> Manifest:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": str(layout.addresses.pods),
        "hostnameOverride": NODE_NAME,
        "clientConnection": {"kubeconfig": str(layout.inner_kubeconfig("proxy"))},
        # The table of connections is the machine's: its size is not the cluster's to set.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }


def containerd(layout: Layout) -> Component:
    return Component("containerd", ("containerd", "--config", str(layout.state / "containerd.toml")))


def kubelet(layout: Layout) -> Component:
    argv = (
        layout.binary("kubelet"),
        f"--config={layout.state / 'kubelet.json'}",
        f"--kubeconfig={layout.inner_kubeconfig('kubelet')}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={layout.addresses.node_address}",
        f"--root-dir={layout.state / 'kubelet'}",
    )
    return Component("kubelet", argv, health_url="http://127.0.0.1:10248/healthz")


def proxy(layout: Layout) -> Component:
    argv = (layout.binary("kube-proxy"), f"--config={layout.state / 'proxy.json'}")
    return Component("kube-proxy", argv, health_url="http://127.0.0.1:10249/healthz")


def files(layout: Layout, cni_folder: str, snapshotter: str, *, cgroup_v1: bool) -> dict[str, str]:
    """Path in the state folder → text, of every file that the node's processes read."""
    return {
        "containerd.toml": containerd_config(layout, cni_folder, snapshotter),
        "cni/10-pods.conflist": json.dumps(pod_network(layout)),
        "kubelet.json": json.dumps(kubelet_config(layout, cgroup_v1=cgroup_v1)),
        "proxy.json": json.dumps(proxy_config(layout)),
        "system.json": json.dumps(
            {"apiVersion": "v1", "kind": "List", "items": system_manifests(layout.addresses)}
        ),
    }


def system_manifests(addresses: Addresses) -> list[Manifest]:
    """What the cluster itself runs: DNS, and the right of kube-proxy to read Services."""
    meta = {"name": "coredns", "namespace": "kube-system"}
    labels = {"k8s-app": "kube-dns"}
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "coredns"}
    account = {"kind": "ServiceAccount", **meta}
    rbac = "rbac.authorization.k8s.io/v1"
    zones = f"{CLUSTER_DOMAIN} in-addr.arpa ip6.arpa"
    corefile = f".:53 {{\n errors\n health :8080\n ready :8181\n kubernetes {zones}\n cache 30\n}}\n"
    ports = [{"name": protocol.lower(), "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    service = {"clusterIP": str(addresses.dns_service), "selector": labels, "ports": ports}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": "coredns"}, "rules": rules},
        {
            "apiVersion": rbac,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "coredns"},
            "roleRef": role,
            "subjects": [account],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"Corefile": corefile}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": _coredns(labels)},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta | {"name": "kube-dns"}, "spec": service},
    ]


def _coredns(labels: dict[str, str]) -> Manifest:
    container = {
        "name": "coredns",
        "image": COREDNS_IMAGE,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
    }
    pod = {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        # A fake node would call it ready, and nobody would answer.
        "nodeSelector": {"kubernetes.io/hostname": NODE_NAME},
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    return {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
