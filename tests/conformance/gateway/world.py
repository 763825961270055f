"""A gateway process in front of a fake API server and scripted engines, all on loopback."""

import itertools
import ssl
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.gateway.fake_api_server import FakeApiServer
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Manifest, Variant, engine, slice_of
from tests.conformance.gateway.process import GatewayProcess, is_ready, kubeconfig_for, launch
from tests.conformance.gateway.scripted_engine import ScriptedEngine
from tests.support.waiting import wait_until

OWNERS_SECRET = ("secrets", "keys", "owner")
"""That of the key that tests have for themselves, where keys are asked for."""
TOLD = itertools.count()


@dataclass
class World:
    """One gateway, its API server and the engines that a test has set up.

    One that outlives a test is cleared between tests, and nothing is waited for that may be as it was before:
    what was put last is to be seen. (Of several workers, by the one that happens to answer.)
    """

    gateway: GatewayProcess
    api: FakeApiServer
    thread: LoopThread
    engines: list[ScriptedEngine] = field(default_factory=list)
    fast: bool = False
    """Whether JSON requests are to find kept connections, and so to take the fast lane."""
    owner_key: str = ""
    """What may do everything, also in the next test; empty where no key is asked for."""

    def engine(self, tls: ssl.SSLContext | None = None) -> ScriptedEngine:
        made = ScriptedEngine(self.thread, tls=tls)
        self.engines.append(made)
        return made

    def serve(self, variant: Variant, *engines: ScriptedEngine) -> ScriptedEngine:
        """Publishes the variant with these engines behind it (one new one where none is given) and waits."""
        behind = engines or (self.engine(),)
        self.run(variant, *(each.port for each in behind))
        return behind[0]

    def run(self, variant: Variant, *ports: int) -> None:
        """Publishes the variant with what listens on these ports behind it, and waits until that is known."""
        pieces = [
            slice_of(variant.name, port, namespace=variant.namespace, suffix=str(number))
            for number, port in enumerate(ports)
        ]
        self._withdraw(variant, pieces)
        self.api.put("endpointslices", *pieces)
        self.publish(variant)
        self.wait_for(variant.id, "running")

    def _withdraw(self, variant: Variant, pieces: Sequence[Manifest]) -> None:
        """Waits until the variant no longer runs by what `run` put behind it before, if that was another."""
        known = {
            key: manifest["ports"]
            for key, manifest in self.api.state.objects.items()
            if key[:2] == ("endpointslices", variant.namespace)
            and key[2].removeprefix(f"{variant.name}-").isdecimal()
        }
        if known and list(known.values()) != [piece["ports"] for piece in pieces]:
            for key in known:
                self.api.delete(*key)
            wait_until(
                lambda: "running" not in self._statuses({variant.id}),
                seconds=10,
                what=f"{variant.id} has left its engines",
                every=0.005,
            )

    def publish(self, variant: Variant) -> None:
        if ("engines", variant.namespace, variant.engine) not in self.api.state.objects:
            self.api.put("engines", engine(variant.engine, variant.namespace))
        manifest = variant.manifest()
        for each in manifest["status"]["conditions"]:
            each["message"] = f"told as number {next(TOLD)}"
        self.api.put("modelvariants", manifest)

    def wait_for(self, model: str, status: str) -> None:
        """Until the model has that status, as it was published last."""

        def is_known() -> bool:
            shown = self.gateway.get(f"/v1/models/{model}").json
            told = list(self.told(model))
            return shown.get("status") == status and (not told or shown["ready"]["message"] in told)

        wait_until(is_known, seconds=10, what=f"{model} is {status}", every=0.02)

    def told(self, model: str) -> Iterator[str]:
        """What is said of its readiness by the variants that go by that id."""
        for (plural, _, _), manifest in self.api.state.objects.items():
            if plural == "modelvariants" and manifest["spec"].get("servedName") == model:
                conditions = manifest.get("status", {}).get("conditions", [])
                yield from (each["message"] for each in conditions if each["type"] == "Ready")

    def _statuses(self, models: Container[str]) -> set[str]:
        items = self.gateway.get("/v1/models?status=all").json["data"]
        return {item["status"] for item in items if item["id"] in models}

    def clear(self) -> None:
        """Nothing is left of the last test, as the gateway sees it. Endpoints go first: nobody lists them."""
        self.gateway.key = self.owner_key
        for each in self.engines:
            each.stop()
        self.engines.clear()
        if not self.api.running:  # of a test that failed before it came back
            self.api.start()
        with_endpoints = set(self._with_endpoints())
        self.api.clear("endpointslices")
        wait_until(
            lambda: "running" not in self._statuses(with_endpoints),
            seconds=10,
            what="the gateway has seen all endpoints go",
            every=0.005,
        )
        self.api.clear("engines", "modelvariants")
        wait_until(
            lambda: self.gateway.get("/v1/engines").json == {"engines": [], "total": 0, "runtimes": []},
            seconds=10,
            what="the gateway has seen all objects go",
            every=0.005,
        )
        self.api.clear(but=[OWNERS_SECRET])

    def _with_endpoints(self) -> Iterator[str]:
        """The ids of variants that have endpoints, of their own or by their engine."""
        there = self.api.state.objects.items()
        services = [
            each["metadata"]["labels"]["kubernetes.io/service-name"]
            for key, each in there
            if key[0] == "endpointslices"
        ]
        for (plural, _, name), manifest in there:
            if plural == "modelvariants" and {name, manifest["spec"]["engineRef"]["name"]} & {*services}:
                yield manifest["spec"].get("servedName", name)


@contextmanager
def a_world(thread: LoopThread, folder: Path, settings: Mapping[str, str]) -> Iterator[World]:
    """A gateway of its own with its own API server, ended with the block."""
    api = FakeApiServer(thread)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(kubeconfig_for(api.url))
    gateway = launch(folder, kubeconfig, settings)
    try:
        wait_until(lambda: is_ready(gateway), seconds=60, what="the gateway is ready", every=0.05)
        world = World(gateway, api, thread)
        yield world
        for each in world.engines:
            each.stop()
        said = gateway.log_path.read_text().splitlines()
        faults = [line for line in said if any(each in line for each in ("Traceback", "ASGI"))]
        assert faults == [], f"the gateway met faults of its own: {faults[:3]}"
    finally:
        gateway.kill()
        api.stop()
