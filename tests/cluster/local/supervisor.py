"""The cluster's first process: makes its namespaces, brings the cluster up inside them and keeps it running.

Process, mount and network namespace are the cluster's own, and this process is number 1 of them. So whatever
ends it, also `kill -9`, ends every process of the cluster, and with the last of them the kernel takes back
its mounts, interfaces, routes and packet filter rules. What is left to `down` is the state folder and the
cgroups.

Run by `lifecycle.up`, never by hand: `python -m tests.cluster.local.supervisor STATE_FOLDER`.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from . import mounts
from .addresses import addresses
from .bringup import bring_up
from .components import Components
from .control import serve_control
from .errors import ClusterError
from .identity import Identity
from .layout import Layout
from .namespaces import NEW_IPC, NEW_MOUNT, NEW_NET, NEW_PID, unshare


def main() -> None:
    spec = json.loads((Path(sys.argv[1]) / "spec.json").read_text())
    layout = Layout(addresses(spec["number"]), spec["mode"], Path(sys.argv[1]), Path(spec["binaries"]))
    host_network = os.open("/proc/self/ns/net", os.O_RDONLY)
    unshare(NEW_NET | NEW_MOUNT | NEW_PID | NEW_IPC)
    network = Path("/proc/self/ns/net").stat().st_ino
    go_on, tell = os.pipe()
    child = os.fork()
    if child:
        # Nothing of the cluster may run before its identity is on disk, or `down` could not find it.
        Identity.of_process(child, network).write(layout.identity)
        os.write(tell, b".")
        os._exit(0)
    os.close(tell)
    if not os.read(go_on, 1):
        os._exit(1)
    os.close(go_on)
    mounts.make_private()
    if layout.mode == "full":
        mounts.overlay(layout.state)
    _reap(layout, host_network)


def _reap(layout: Layout, host_network: int) -> None:
    """Number 1 inherits every orphan. It only buries them; a child of its own does the work."""
    worker = os.fork()
    if not worker:
        os._exit(asyncio.run(_work(layout, host_network)))
    # Without a handler number 1 would never see it, and a machine that shuts down would wait for a timeout.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        pid, status = os.wait()
        if pid == worker:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


async def _work(layout: Layout, host_network: int) -> int:
    with layout.events.open("a", buffering=1) as events:

        def tell(event: str, **details: Any) -> None:
            events.write(json.dumps({"event": event, **details}) + "\n")

        components = Components(layout.logs, lambda name, status: tell("restarted", name=name, status=status))
        try:
            await bring_up(layout, host_network, components, tell)
        except ClusterError as error:
            tell("failed", reason=str(error))
            return 1
        async with await serve_control(layout, host_network, components) as server:
            tell("ready")
            await server.serve_forever()
    return 0


if __name__ == "__main__":
    main()
