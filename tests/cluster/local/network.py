"""What makes a cluster's network: the `ip` commands, pure, and the kernel's settings of the namespace."""

from pathlib import Path

from .addresses import Addresses

# The namespace's own, not the machine's. An orphan is a connection whose process is gone and whose peer is
# silent: the default would hold on to each, and with it to the namespace, for minutes.
SETTINGS = {"ip_forward": "1", "tcp_orphan_retries": "1"}


def inside(addresses: Addresses) -> list[str]:
    """For `ip`, in the cluster's namespace, after the link is there.

    The whole fake-pod range is local: a process in the namespace may listen on any address of it. There is no
    default route: a call that would leave the cluster fails at once instead of hanging until it times out.
    """
    return [
        "link set lo up",
        f"addr add {addresses.node_address}/{addresses.link.prefixlen} dev rh0",
        "link set rh0 up",
        f"route add local {addresses.fake_pods} dev lo",
        # kube-proxy turns a Service's address into a pod's, but only for a packet that has a way at all.
        f"route add {addresses.services} via {addresses.host_address}",
    ]


def on_the_machine(addresses: Addresses) -> list[str]:
    """For `ip`, in the machine's namespace: the link to process 1's, and what is reached through it."""
    interface = addresses.host_interface
    return [
        f"link add {interface} type veth peer name rh0 netns 1",
        f"addr add {addresses.host_address}/{addresses.link.prefixlen} dev {interface}",
        f"link set {interface} up",
        *(f"route add {network} via {addresses.node_address}" for network in addresses.routed),
    ]


def set_kernel() -> None:
    """Apply the settings to the network namespace of the calling process."""
    for name, value in SETTINGS.items():
        Path(f"/proc/sys/net/ipv4/{name}").write_text(value)
