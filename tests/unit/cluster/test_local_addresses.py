"""A cluster's number decides every name, port and address, and no two numbers share one."""

from ipaddress import IPv4Network, collapse_addresses
from itertools import combinations

import pytest

from tests.cluster.local.addresses import COUNT, addresses
from tests.cluster.local.errors import ClusterError

BENCHMARKING = IPv4Network("198.18.0.0/15")


def test_numbers_share_nothing() -> None:
    every = [addresses(number) for number in range(COUNT)]
    networks = [network for own in every for network in (own.link, *own.routed)]
    ports = [port for own in every for port in (own.api_port_on_host, own.gateway_port_on_host)]
    names = [name for own in every for name in (own.host_interface, own.cgroup)]
    assert not any(one.overlaps(other) for one, other in combinations(networks, 2))
    assert len(set(ports)) == len(ports)
    assert len(set(names)) == len(names)


def test_every_range_is_one_that_no_network_uses() -> None:
    networks = [network for number in range(COUNT) for network in addresses(number).routed]
    assert all(network.subnet_of(BENCHMARKING) for network in collapse_addresses(networks))


def test_interface_names_fit_the_kernel() -> None:
    assert all(len(addresses(number).host_interface) <= 15 for number in range(COUNT))


def test_a_cluster_has_room_for_what_the_tests_make() -> None:
    own = addresses(3)
    assert own.pods.num_addresses > 250
    assert own.fake_pods.num_addresses > 2000
    assert own.services.num_addresses > 2000


@pytest.mark.parametrize("number", [-1, COUNT, 100])
def test_a_number_out_of_range_is_refused_with_the_range(number: int) -> None:
    with pytest.raises(ClusterError, match=f"0 to {COUNT - 1}, not {number}"):
        addresses(number)
