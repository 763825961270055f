"""What the cluster's components are told: nothing is open to the outside or shared with another cluster."""

import json
import re
from pathlib import Path

import pytest

from tests.cluster.local import config, network, node, pki
from tests.cluster.local.addresses import COUNT, addresses
from tests.cluster.local.exposing import service_port
from tests.cluster.local.layout import Layout

STATE = Path("/state/3")


@pytest.fixture
def layout() -> Layout:
    return Layout(addresses(3), "full", STATE, Path("/bin-cache"))


def everything(layout: Layout) -> list[config.Component]:
    plane = [config.etcd, config.api_server, config.controller_manager, config.scheduler, config.kwok]
    return [
        make(layout) for make in (*plane, config.api_forwarder, node.containerd, node.kubelet, node.proxy)
    ]


def test_nothing_listens_on_every_address(layout: Layout) -> None:
    texts = [" ".join(component.argv) for component in everything(layout)]
    texts += node.files(layout, "/cni", "overlayfs", cgroup_v1=True).values()
    assert not [text for text in texts if "0.0.0.0:" in text or re.search(r"address[=:\" ]+0\.0\.0\.0", text)]


def test_component_names_and_state_files_are_their_own(layout: Layout) -> None:
    names = [component.name for component in everything(layout)]
    assert len(set(names)) == len(names)
    argv = " ".join(word for component in everything(layout) for word in component.argv)
    assert set(re.findall(r"/state/\d+", argv)) == {str(STATE)}


def test_two_kubelets_never_share_a_cgroup_root() -> None:
    roots = {
        node.kubelet_config(Layout(addresses(number), "full", STATE, STATE), cgroup_v1=True)["cgroupRoot"]
        for number in range(COUNT)
    }
    assert len(roots) == COUNT


def test_cgroup_v1_is_allowed_only_where_the_machine_has_it(layout: Layout) -> None:
    assert node.kubelet_config(layout, cgroup_v1=True)["failCgroupV1"] is False
    assert "failCgroupV1" not in node.kubelet_config(layout, cgroup_v1=False)


def test_containerd_writes_below_the_state_folder_alone(layout: Layout) -> None:
    text = node.containerd_config(layout, "/usr/lib/cni", "native")
    paths = re.findall(r'= "(/[^"]*)"', text)
    assert [path for path in paths if not path.startswith(str(STATE))] == ["/usr/lib/cni"]
    assert 'snapshotter = "native"' in text


def test_dns_has_the_address_that_kubelet_gives_to_pods(layout: Layout) -> None:
    given = node.kubelet_config(layout, cgroup_v1=True)["clusterDNS"]
    services = [item for item in node.system_manifests(layout.addresses) if item["kind"] == "Service"]
    assert [service["spec"]["clusterIP"] for service in services] == given


def test_the_api_server_certificate_covers_every_way_to_reach_it(layout: Layout) -> None:
    names = pki.server_names(layout.addresses).split(",")
    own = layout.addresses
    reached = {"127.0.0.1", str(own.node_address), str(own.kubernetes_service)}
    assert reached <= {name.removeprefix("IP:") for name in names}
    assert "DNS:kubernetes.default.svc" in names


def test_a_kubeconfig_holds_its_credentials(layout: Layout) -> None:
    parsed = json.loads(pki.kubeconfig("https://127.0.0.1:1", b"authority", b"certificate", b"key"))
    assert parsed["clusters"][0]["cluster"]["certificate-authority-data"] == "YXV0aG9yaXR5"
    assert parsed["users"][0]["user"]["client-key-data"] == "a2V5"
    assert parsed["current-context"] == parsed["contexts"][0]["name"]


def test_every_routed_range_leads_into_the_cluster(layout: Layout) -> None:
    commands = "\n".join(network.on_the_machine(layout.addresses))
    assert all(
        f"route add {routed} via {layout.addresses.node_address}" in commands
        for routed in layout.addresses.routed
    )
    assert f"route add local {layout.addresses.fake_pods} dev lo" in network.inside(layout.addresses)


@pytest.mark.parametrize(("target", "number"), [(None, 80), ("http", 80), ("metrics", 9090)])
def test_a_service_port_is_found_by_name(target: str | None, number: int) -> None:
    ports = [{"name": "http", "port": 80}, {"name": "metrics", "port": 9090}]
    service = {"metadata": {"name": "gateway"}, "spec": {"clusterIP": "198.19.0.9", "ports": ports}}
    assert service_port(service, target) == number
