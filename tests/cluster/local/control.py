"""The supervisor's socket: one JSON line asks, one JSON line answers.

`{"do": "status"}` tells of the components; `{"do": "expose", "name", "port", "target", "dns"}` starts a
forwarder from the machine's loopback, or replaces the one of that name.
"""

import asyncio
import json
from typing import Any

from .components import Components
from .config import Component
from .layout import Layout
from .namespaces import listen_in


async def serve_control(layout: Layout, host_network: int, components: Components) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            reply = await _do(request, layout, host_network, components)
        except (OSError, ValueError, KeyError) as error:
            reply = {"error": f"{error}"}
        writer.write(json.dumps(reply).encode() + b"\n")
        await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(answer, layout.control)


async def _do(
    request: dict[str, Any], layout: Layout, host_network: int, components: Components
) -> dict[str, Any]:
    match request["do"]:
        case "status":
            return {"components": components.states()}
        case "expose":
            name = f"expose-{request['port']}"
            if name in components.states():
                await components.stop(name)
            listener = listen_in(host_network, "127.0.0.1", request["port"])
            dns = ("-dns", request["dns"]) if request.get("dns") else ()
            argv = (layout.binary("forward"), *dns, request["target"])
            components.start(Component(name, argv), listener=listener.detach())
            return {"exposed": request["target"]}
        case unknown:
            raise ValueError(f"the supervisor does not know {unknown!r}")
