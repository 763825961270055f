"""Number → every name, address and port of a cluster. Pure.

Two clusters with different numbers share none of these. The ranges lie in 198.18.0.0/15, set aside for
benchmarking: neither private nor public, so no network that a machine stands in uses them.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from .errors import ClusterError

COUNT = 16
NODE_NAME = "node1"
API_PORT = 6443


@dataclass(frozen=True, slots=True)
class Addresses:
    """What cluster `number` is called and where it lives.

    `link` joins the machine with the cluster's network namespace (host end .1, cluster end .2, which is the
    node's address), `pods` are the real pods', `fake_pods` kwok's: all of these are the namespace's own, so
    a test may listen on any of them.
    """

    number: int
    pods: IPv4Network
    link: IPv4Network
    services: IPv4Network
    fake_pods: IPv4Network

    @property
    def host_interface(self) -> str:
        return f"rhve{self.number}"

    @property
    def cgroup(self) -> str:
        return f"roundhouse-local-{self.number}"

    @property
    def host_address(self) -> IPv4Address:
        return self.link[1]

    @property
    def node_address(self) -> IPv4Address:
        return self.link[2]

    @property
    def kubernetes_service(self) -> IPv4Address:
        return self.services[1]

    @property
    def dns_service(self) -> IPv4Address:
        return self.services[10]

    @property
    def api_port_on_host(self) -> int:
        """The API server's port on the machine's loopback."""
        return 16443 + self.number

    @property
    def gateway_port_on_host(self) -> int:
        """The port on the machine's loopback kept for Roundhouse's gateway."""
        return 18080 + self.number

    @property
    def api_url(self) -> str:
        return f"https://127.0.0.1:{self.api_port_on_host}"

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port_on_host}"

    @property
    def routed(self) -> tuple[IPv4Network, ...]:
        """Ranges that the machine reaches through the link."""
        return (self.pods, self.services, self.fake_pods)


def addresses(number: int) -> Addresses:
    """The addresses of cluster `number`, 0 to 15."""
    if not 0 <= number < COUNT:
        raise ClusterError(f"a local cluster's number is 0 to {COUNT - 1}, not {number!r}")
    return Addresses(
        number=number,
        pods=IPv4Network(f"198.18.{number * 4}.0/23"),
        link=IPv4Network(f"198.18.{number * 4 + 3}.0/30"),
        services=IPv4Network(f"198.19.{number * 16}.0/20"),
        fake_pods=IPv4Network(f"198.18.{128 + number * 8}.0/21"),
    )
