"""`metrics.k8s.io` as a metrics server would serve it, with the figures that a test writes into a file.

`python -m tests.cluster.operator.metrics_api ADDRESS CERTIFICATE KEY FIGURES`; the file holds CPU in
thousandths of a core by pod, as JSON.
"""

import asyncio
import json
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

PORT = 8443
GROUP = "/apis/metrics.k8s.io/v1beta1"
API: dict[str, Any] = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": "metrics.k8s.io/v1beta1",
    "resources": [
        {
            "name": "pods",
            "singularName": "",
            "namespaced": True,
            "kind": "PodMetrics",
            "verbs": ["get", "list"],
        }
    ],
}


async def main(address: str, certificate: str, key: str, figures: Path) -> None:
    async def resources(_request: web.Request) -> web.Response:
        return web.json_response(API)

    async def pods(request: web.Request) -> web.Response:
        told = json.loads(await asyncio.to_thread(figures.read_text))
        items = [metric(request, name, milli) for name, milli in told.items()]
        listed = {"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}}
        return web.json_response({**listed, "items": items})

    app = web.Application()
    app.router.add_get(GROUP, resources)
    app.router.add_get(f"{GROUP}/namespaces/{{namespace}}/pods", pods)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    await web.TCPSite(runner, address, PORT, ssl_context=context).start()
    print("listening", flush=True)
    await asyncio.Event().wait()


def metric(request: web.Request, name: str, milli: int) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": request.match_info["namespace"]},
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "window": "1s",
        "containers": [{"name": "engine", "usage": {"cpu": f"{milli}m", "memory": "64Mi"}}],
    }


if __name__ == "__main__":
    address, certificate, key, figures = sys.argv[1:]
    asyncio.run(main(address, certificate, key, Path(figures)))
