"""The commands that make a cluster's network. Pure: addresses in, `ip` arguments out."""

from .addresses import Addresses


def inside(addresses: Addresses) -> list[str]:
    """For `ip`, in the cluster's namespace, after the link is there.

    The whole fake-pod range is local: a process in the namespace may listen on any address of it.
    """
    return [
        "link set lo up",
        f"addr add {addresses.node_address}/{addresses.link.prefixlen} dev rh0",
        "link set rh0 up",
        f"route add default via {addresses.host_address}",
        f"route add local {addresses.fake_pods} dev lo",
    ]


def on_the_machine(addresses: Addresses) -> list[str]:
    """For `ip`, in the machine's namespace: the link to process 1's namespace, and what is reached through it."""
    interface = addresses.host_interface
    return [
        f"link add {interface} type veth peer name rh0 netns 1",
        f"addr add {addresses.host_address}/{addresses.link.prefixlen} dev {interface}",
        f"link set {interface} up",
        *(f"route add {network} via {addresses.node_address}" for network in addresses.routed),
    ]
