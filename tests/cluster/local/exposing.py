"""Joins a port of the machine's loopback with a Service of the local cluster, until the cluster ends."""

from typing import Any

from . import lifecycle, machine
from .errors import ClusterError
from .layout import Layout
from .node import CLUSTER_DOMAIN
from .processes import kubectl_json


def expose(layout: Layout, namespace: str, service: str, port: int, target: str | None = None) -> str:
    """Forward 127.0.0.1:`port` to the Service's port named `target`, or its first. Gives the address.

    The Service is looked up for each connection, so its pods may restart and it may be deleted and made
    again.
    """
    if layout.mode != "full":
        name = f"cluster {layout.addresses.number}"
        raise ClusterError(f"{name} is a control plane alone: nothing answers at its Services' addresses")
    wanted = ("get", "service", service, "--namespace", namespace)
    found = kubectl_json(layout.binaries, layout.kubeconfig, *wanted)
    number = service_port(found, target)
    if f"expose-{port}" not in lifecycle.components(layout):
        machine.check_port(port, f"service {namespace}/{service}")
    request: dict[str, Any] = {
        "do": "expose",
        "port": port,
        "target": f"{service}.{namespace}.svc.{CLUSTER_DOMAIN}:{number}",
        "dns": f"{layout.addresses.dns_service}:53",
    }
    lifecycle.ask(layout, request)
    return f"127.0.0.1:{port}"


def service_port(service: dict[str, Any], target: str | None) -> int:
    """The number of the port with that name, or of the first."""
    name, ports = service["metadata"]["name"], service["spec"].get("ports", [])
    if service["spec"].get("clusterIP") in (None, "", "None"):
        raise ClusterError(f"service {name!r} has no address of its own (it is headless): expose another")
    for port in ports:
        if target in (None, port.get("name")):
            return int(port["port"])
    names = ", ".join(repr(port.get("name")) for port in ports)
    raise ClusterError(f"service {name!r} has no port named {target!r}; its ports are {names}")
