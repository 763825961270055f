"""The steps that bring a cluster up, in order, inside its namespaces. What each is made of is decided elsewhere."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from . import config, network
from .components import Components
from .errors import ClusterError
from .layout import Layout
from .namespaces import listen_in
from .pki import make_pki


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

    async def certificates(self) -> None:
        await asyncio.to_thread(make_pki, self._layout)

    async def etcd(self) -> None:
        component = config.etcd(self._layout)
        self._components.start(component)
        await self._components.wait_healthy(component, within_seconds=30)

    async def api_server(self) -> None:
        addresses = self._layout.addresses
        component = config.api_server(self._layout)
        self._components.start(component)
        listener = listen_in(self._host_network, "127.0.0.1", addresses.api_port_on_host)
        self._components.start(config.api_forwarder(self._layout), listener=listener.detach())
        await self._components.wait_healthy(
            component, within_seconds=60, url=f"{config.api_url(self._layout)}/readyz"
        )

    async def controllers(self) -> None:
        started = [config.controller_manager(self._layout), config.scheduler(self._layout)]
        for component in (*started, config.kwok(self._layout)):
            self._components.start(component)
        for component in started:
            await self._components.wait_healthy(component, within_seconds=30)
        await self._default_service_account()

    async def _default_service_account(self) -> None:
        """Pods are refused before the controller manager has made it."""
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        kubeconfig = f"--kubeconfig={self._layout.inner_kubeconfig('admin')}"
        await self._until(15, self._layout.binary("kubectl"), kubeconfig, "get", "--raw", path)

    async def _until(self, within_seconds: float, *argv: str) -> None:
        """Run the command until it succeeds."""
        deadline = time.monotonic() + within_seconds
        while True:
            try:
                return await self._run(*argv)
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def _run(self, *argv: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(self._host_network,),
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise ClusterError(
                f"{' '.join(argv)!r} ended with {process.returncode}: {output.decode().strip()}"
            )
