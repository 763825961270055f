"""The steps that bring a cluster up, in order, inside its namespaces.

Decides the order, what is waited for and how long; what each component is made of is decided elsewhere.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from . import cgroups, config, network, node
from .addresses import NODE_NAME
from .components import Components
from .errors import ClusterError
from .images import pack
from .layout import Layout
from .machine import snapshotter
from .namespaces import listen_in
from .packages import cni_folder
from .pki import make_pki

OWN_IMAGES = {node.PAUSE_IMAGE: "pause", node.COREDNS_IMAGE: "coredns", node.PROBE_IMAGE: "probe"}

HEALTHY_SECONDS = 120.0
"""A step takes one or two of them where the machine has nothing else to do."""


class Tell(Protocol):
    """Writes an event where `up` reads it."""

    def __call__(self, event: str, **details: object) -> None: ...


async def bring_up(layout: Layout, host_network: int, components: Components, tell: Tell) -> None:
    """Raises ClusterError that names the step, why it failed and what to do."""
    bring = _BringUp(layout, host_network, components)
    steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("network", bring.network),
        ("certificates", bring.certificates),
        ("etcd", bring.etcd),
        ("kube-apiserver", bring.api_server),
        ("controllers", bring.controllers),
    ]
    if layout.mode == "full":
        steps += [
            ("containerd", bring.containerd),
            ("images", bring.images),
            ("kubelet", bring.kubelet),
            ("kube-proxy", bring.proxy),
            ("DNS", bring.dns),
        ]
    for name, step in steps:
        began = time.monotonic()
        try:
            await step()
        except ClusterError as error:
            raise ClusterError(f"step {name!r} failed: {error}") from error
        except OSError as error:
            raise ClusterError(f"step {name!r} failed: {error}") from error
        tell("step", name=name, seconds=round(time.monotonic() - began, 2))


class _BringUp:
    def __init__(self, layout: Layout, host_network: int, components: Components) -> None:
        self._layout = layout
        self._host_network = host_network
        self._components = components

    async def network(self) -> None:
        addresses = self._layout.addresses
        for arguments in network.on_the_machine(addresses):
            await self._run("nsenter", f"--net=/proc/self/fd/{self._host_network}", "ip", *arguments.split())
        for arguments in network.inside(addresses):
            await self._run("ip", *arguments.split())
        network.set_kernel()

    async def certificates(self) -> None:
        await asyncio.to_thread(make_pki, self._layout)

    async def etcd(self) -> None:
        component = config.etcd(self._layout)
        self._components.start(component)
        await self._components.wait_healthy(component, within_seconds=HEALTHY_SECONDS)

    async def api_server(self) -> None:
        addresses = self._layout.addresses
        component = config.api_server(self._layout)
        self._components.start(component)
        listener = listen_in(self._host_network, "127.0.0.1", addresses.api_port_on_host)
        self._components.start(config.api_forwarder(self._layout), listener=listener.detach())
        await self._components.wait_healthy(
            component, within_seconds=HEALTHY_SECONDS, url=f"{config.api_url(self._layout)}/readyz"
        )

    async def controllers(self) -> None:
        started = [config.controller_manager(self._layout), config.scheduler(self._layout)]
        for component in (*started, config.kwok(self._layout)):
            self._components.start(component)
        for component in started:
            await self._components.wait_healthy(component, within_seconds=HEALTHY_SECONDS)
        await self._default_service_account()

    async def containerd(self) -> None:
        layout = self._layout
        cgroups.make(layout.addresses.cgroup)
        files = node.files(layout, cni_folder(), snapshotter(layout.state), cgroup_v1=cgroups.version() == 1)
        for name, text in files.items():
            (layout.state / name).parent.mkdir(exist_ok=True)
            (layout.state / name).write_text(text)
        self._components.start(node.containerd(layout))
        await self._until(HEALTHY_SECONDS, *node.client(layout), "version")

    async def images(self) -> None:
        chosen = snapshotter(self._layout.state)
        for name, command in OWN_IMAGES.items():
            with tempfile.TemporaryFile(dir=self._layout.state) as archive:
                pack(name, self._layout.binaries / command, archive)
                archive.seek(0)
                importing = (*node.client(self._layout), "images", "import", "--snapshotter", chosen, "-")
                await self._run(*importing, stdin=archive.fileno())

    async def kubelet(self) -> None:
        component = node.kubelet(self._layout)
        self._components.start(component)
        await self._components.wait_healthy(component, within_seconds=HEALTHY_SECONDS)
        await self._kubectl_wait("node", NODE_NAME, "condition=Ready", "kubelet")

    async def proxy(self) -> None:
        component = node.proxy(self._layout)
        self._components.start(component)
        await self._components.wait_healthy(component, within_seconds=HEALTHY_SECONDS)

    async def dns(self) -> None:
        await self._kubectl("apply", "--server-side", "-f", str(self._layout.state / "system.json"))
        await self._kubectl_wait("deployment", "coredns", "condition=Available", "kubelet")

    async def _kubectl_wait(self, kind: str, name: str, condition: str, log: str) -> None:
        """Wait for an object; if it does not come, its own words and the component's log tell why."""
        try:
            await self._until(HEALTHY_SECONDS, *self._kubectl_command("get", kind, name))
            await self._kubectl("wait", kind, name, f"--for={condition}", f"--timeout={HEALTHY_SECONDS:.0f}s")
        except ClusterError as error:
            status = await self._kubectl("get", kind, name, "-o", "jsonpath={.status.conditions}")
            raise ClusterError(f"{error}\nIt says: {status}\n{self._components.log_tail(log)}") from error

    async def _kubectl(self, *arguments: str) -> str:
        return await self._run(*self._kubectl_command(*arguments))

    def _kubectl_command(self, *arguments: str) -> list[str]:
        kubeconfig = f"--kubeconfig={self._layout.inner_kubeconfig('admin')}"
        return [self._layout.binary("kubectl"), kubeconfig, "--namespace=kube-system", *arguments]

    async def _default_service_account(self) -> None:
        """Pods are refused before the controller manager has made it."""
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        await self._until(HEALTHY_SECONDS, *self._kubectl_command("get", "--raw", path))

    async def _until(self, within_seconds: float, *argv: str) -> str:
        """Run the command until it succeeds."""
        deadline = time.monotonic() + within_seconds
        while True:
            try:
                return await self._run(*argv)
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def _run(self, *argv: str, stdin: int = asyncio.subprocess.DEVNULL) -> str:
        """The command's output, of both kinds; a failure is an error that holds it."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(self._host_network,),
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise ClusterError(
                f"{' '.join(argv)!r} ended with {process.returncode}: {output.decode().strip()}"
            )
        return output.decode()
