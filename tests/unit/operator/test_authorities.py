"""How loaders are told of authorities of one's own: by a ConfigMap of the namespace, to which pods refer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator import authorities as looked_after
from roundhouse_operator.authorities import Authorities
from roundhouse_operator.core.kinds import DEPLOYMENT, Kind
from roundhouse_operator.core.weights.loader import LoaderImage
from roundhouse_operator.errors import ConflictError, NotFoundError
from roundhouse_operator.settings import Settings
from tests.unit.operator.caches import COMPLETE, HUB, PVC, Caches
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import conditions, node

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
NAME = "roundhouse-speech-loader"
TOLD = LoaderImage("example.org/loader:1", authorities=NAME)
REFERENCE = {
    "name": "ROUNDHOUSE_CA_CERTIFICATES",
    "valueFrom": {"configMapKeyRef": {"name": NAME, "key": "ca.crt", "optional": True}},
}
RUNS: dict[str, Any] = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}


class Server:
    """ConfigMaps by namespace, and how many requests there were."""

    def __init__(self) -> None:
        self.there: dict[str, Manifest] = {}
        self.asked = self.applied = 0

    async def get(self, _kind: Kind, namespace: str, name: str) -> Manifest:
        self.asked += 1
        if namespace not in self.there:
            raise NotFoundError(404, "NotFound", name)
        return self.there[namespace]

    async def apply(self, _kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:
        self.applied += 1
        namespace = manifest["metadata"]["namespace"]
        if namespace in self.there and not force:
            raise ConflictError(409, "Conflict", "held by 'kubectl'")
        self.there[namespace] = manifest
        return manifest

    def authorities(self, certificates: str = PEM) -> Authorities:
        """As an operator has them that was just started."""
        cluster: Any = self
        return Authorities(cluster, NAME, certificates)


async def test_each_namespace_in_which_weights_are_loaded_has_one() -> None:
    server = Server()
    authorities = server.authorities()
    for namespace in ("a", "b", "a"):
        assert await authorities.ensure(namespace) is None
    assert {name: one["data"] for name, one in server.there.items()} == {
        "a": {"ca.crt": PEM},
        "b": {"ca.crt": PEM},
    }
    assert (server.asked, server.applied) == (2, 2)
    await server.authorities().ensure("a")
    assert server.applied == 2, "a restart writes nothing"


async def test_of_namespaces_that_came_and_went_nothing_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looked_after, "REMEMBERED", 10)
    authorities = Server().authorities()
    for number in range(30):
        assert await authorities.ensure(f"ci-{number}") is None
    assert list(authorities._seen) == [f"ci-{number}" for number in range(20, 30)]
    assert not authorities._looking


async def test_a_new_bundle_and_none_reach_what_is_there() -> None:
    server = Server()
    await server.authorities().ensure("a")
    await server.authorities(PEM * 2).ensure("a")
    assert server.there["a"]["data"] == {"ca.crt": PEM * 2}
    await server.authorities("").ensure("a")
    assert server.there["a"]["data"] == {}
    await server.authorities("").ensure("b")
    assert list(server.there) == ["a"]


async def test_what_a_person_wrote_into_it_is_taken_back() -> None:
    server = Server()
    await server.authorities().ensure("a")
    server.there["a"] = {**server.there["a"], "data": {"ca.crt": "mine"}}
    await server.authorities().ensure("a")
    assert server.there["a"]["data"] == {"ca.crt": PEM}


async def test_what_is_somebody_elses_stays_and_is_told() -> None:
    server = Server()
    server.there["a"] = theirs = {"metadata": {"name": NAME}, "data": {"ca.crt": "theirs"}}
    refusal = await server.authorities().ensure("a")
    assert refusal
    assert (refusal.child, refusal.message) == (f"ConfigMap {NAME!r}", "held by 'kubectl'")
    assert await server.authorities("").ensure("a") is None
    assert server.there["a"] is theirs


def deployed(loader: LoaderImage) -> Caches:
    scene = Caches(node("n1"), engine(), variant(source=HUB))
    scene.loader = loader
    scene.steps(**RUNS)
    return scene


def test_pods_hold_its_name_and_a_new_bundle_starts_none_anew() -> None:
    scene = deployed(TOLD)
    [container] = scene.find(DEPLOYMENT, "kws-en")["spec"]["template"]["spec"]["initContainers"]
    assert REFERENCE in container["env"]
    assert PEM not in json.dumps(container)
    assert scene.decide("kws-en").plan.empty


@pytest.mark.parametrize(
    "before",
    [
        LoaderImage("example.org/loader:1"),
        LoaderImage("example.org/loader:1", env=(("ROUNDHOUSE_CA_CERTIFICATES", PEM),)),
    ],
    ids=["none were told", "told by the text itself"],
)
def test_that_they_are_told_otherwise_starts_no_pod_anew(before: LoaderImage) -> None:
    scene = deployed(before)
    scene.loader = TOLD
    assert scene.decide("kws-en").plan.empty
    scene.loader = before
    assert scene.decide("kws-en").plan.empty


def test_a_job_holds_its_name() -> None:
    scene = Caches(node("n1"), engine(cache=PVC), variant(source=HUB))
    scene.loader = TOLD
    scene.steps()
    [container] = scene.job()["spec"]["template"]["spec"]["containers"]
    assert REFERENCE in container["env"]
    scene.bind()
    scene.ends(COMPLETE)
    assert conditions(scene.steps())["WeightsReady"] == ("True", "Downloaded")


def test_the_settings_name_it_where_there_are_any() -> None:
    assert Settings(release="speech", loader_ca_certificates=PEM).loader.authorities == NAME
    assert Settings(release="speech").loader.authorities == ""
