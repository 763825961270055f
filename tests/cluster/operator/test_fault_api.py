"""The API server throttles, fails, is slow, forgets and hangs up: nothing is lost, the end is the same."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from roundhouse_operator.core.kinds import DEPLOYMENT, ENGINE, VARIANT
from tests.cluster.local import Cluster
from tests.cluster.operator.apart import Apart
from tests.cluster.operator.api import Api
from tests.cluster.operator.harness import Operator
from tests.cluster.operator.nursery import Nursery
from tests.cluster.operator.proxy import Call, Proxy, refusal
from tests.cluster.operator.story import Story
from tests.support.waiting import wait_until
from tests.unit.operator.samples import engine, variant


@pytest.fixture
def operator(
    control_plane: Cluster, namespace: str, proxy: Proxy, nursery: Nursery, tmp_path: Path
) -> Iterator[Operator]:
    one = Operator(control_plane, namespace, tmp_path / "operator.log", spawn=nursery.spawn)
    one.environment["KUBECONFIG"] = str(proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    yield one.start()
    if one.alive():
        one.stop()


@dataclass
class Once:
    """Spoils the first try of each write with `answer`, before or after the API server has taken it."""

    answer: Callable[[], web.Response]
    executed: bool = False
    tries: Counter[str] = field(default_factory=Counter)

    async def __call__(self, call: Call) -> web.StreamResponse:
        if not call.writes or call.of_lease or call.of_event:
            return await call.forward()
        what = f"{call.method} {call.path}"
        self.tries[what] += 1
        if self.tries[what] % 2 == 0:
            return await call.forward()
        if self.executed:
            await call.forward()
        return self.answer()


RULES: Final[dict[str, Callable[[], Once]]] = {
    "every write fails once": lambda: Once(lambda: refusal(500, "InternalError")),
    "every answer is lost once": lambda: Once(lambda: refusal(504, "Timeout"), executed=True),
    "every write conflicts once": lambda: Once(lambda: refusal(409, "Conflict")),
    "every write is throttled once": lambda: Once(
        lambda: refusal(429, "TooManyRequests", **{"Retry-After": "1"})
    ),
    "every answer is none once": lambda: Once(lambda: web.Response(text="<html>", status=200)),
}


@pytest.fixture(scope="module")
def ends(
    control_plane: Cluster, nodes: None, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Future[Mapping[str, Any]]]:
    """What comes of the story undisturbed, under the empty name, and under each rule."""
    apart = Apart(control_plane, nursery, tmp_path_factory.mktemp("ends"))

    def tell(rule: Once | None) -> Mapping[str, Any]:
        with apart.stage() as stage:
            operator = stage.operator.start()
            if rule:
                stage.proxy.rule = rule
            story = Story(stage.api, operator.idle, doing=stage.doing)
            story.tell()
            end = story.settled()
            assert operator.alive_or_log()
            assert rule is None or len(rule.tries) > 5
            return end

    with ThreadPoolExecutor(1 + len(RULES)) as pool:
        told = {name: pool.submit(tell, rule()) for name, rule in RULES.items()}
        return {"": pool.submit(tell, None), **told}


@pytest.mark.parametrize("rule", RULES)
def test_what_goes_wrong_once_changes_nothing_in_the_end(
    ends: dict[str, Future[Mapping[str, Any]]], rule: str
) -> None:
    assert ends[rule].result() == ends[""].result()


def test_when_to_come_back_is_honoured(operator: Operator, api: Api, proxy: Proxy) -> None:
    """Whatever happens meanwhile, the variant is not tried again before the time that was named."""
    seconds, tries = 4, list[float]()

    async def throttle(call: Call) -> web.StreamResponse:
        if not (call.writes and call.path.endswith("/deployments/kws-en")):
            return await call.forward()
        tries.append(time.monotonic())
        return refusal(429, "TooManyRequests", **{"Retry-After": str(seconds)})

    proxy.rule = throttle
    api.apply(ENGINE, engine())
    api.apply(VARIANT, variant())
    wait_until(lambda: tries, seconds=30, what="it was tried", every=0.05)
    for number in range(10):
        api.patch(VARIANT, "kws-en", {"spec": {"description": f"{number}"}})
    wait_until(lambda: len(tries) > 1, seconds=60, what="it is tried again", every=0.05)
    assert tries[1] - tries[0] >= seconds
    assert operator.metric("roundhouse_operator_writes_total") is not None
    assert 'verb="apply"' in operator.get("/metrics")[1]
    assert 'result="throttled"' in operator.get("/metrics")[1]


def test_slow_answers_end_nothing(operator: Operator, api: Api, proxy: Proxy) -> None:
    async def slowly(call: Call) -> web.StreamResponse:
        if not call.of_lease:
            await asyncio.sleep(1.5)
        return await call.forward()

    proxy.rule = slowly
    story = Story(api, operator.idle)
    api.apply(ENGINE, engine())
    api.apply(VARIANT, variant())
    story.until(lambda: story.is_served("kws-en"), "it is served")
    assert operator.get("/healthz")[0] == 200


def test_what_happens_while_the_watches_are_cut_is_seen(operator: Operator, api: Api, proxy: Proxy) -> None:
    story = Story(api, operator.idle)
    for name in ("stays", "goes", "changes"):
        api.apply(ENGINE, engine(name))
        api.apply(VARIANT, variant(name, on=name))
    story.until(lambda: story.is_served("stays", "goes", "changes"), "all are served")

    async def no_watch(call: Call) -> web.StreamResponse:
        return refusal(503, "ServiceUnavailable") if call.watches else await call.forward()

    proxy.rule = no_watch
    assert proxy.cut_watches() >= 4
    api.delete(VARIANT, "goes")
    api.delete(ENGINE, "goes")
    api.delete(DEPLOYMENT, "stays")
    api.patch(ENGINE, "changes", {"spec": {"workload": {"image": "example.org/kws:2"}}})
    api.apply(ENGINE, engine("new"))
    api.apply(VARIANT, variant("new", on="new"))
    time.sleep(2)
    assert api.get(DEPLOYMENT, "new") is None, "nobody can know"

    async def passing(call: Call) -> web.StreamResponse:
        return await call.forward()

    proxy.rule = passing
    story.until(lambda: story.is_served("stays", "changes", "new"), "all is seen")
    story.until(lambda: story.runs("changes", 1, "2"), "the edit is done")
    assert api.get(DEPLOYMENT, "goes") is None


@pytest.mark.parametrize(("code", "reason"), [(410, "Expired"), (500, "InternalError"), (403, "Forbidden")])
def test_a_watch_that_ends_in_an_error_begins_anew(
    operator: Operator, api: Api, proxy: Proxy, code: int, reason: str
) -> None:
    """For the kinds that kopf watches too: it takes each error but 410 for its end."""
    story, told = Story(api, operator.idle), Counter[str]()
    api.apply(ENGINE, engine())
    api.apply(VARIANT, variant())
    story.until(lambda: story.is_served("kws-en"), "it is served")
    event = {"type": "ERROR", "object": {"kind": "Status", "code": code, "reason": reason, "message": "so"}}

    async def in_the_stream(call: Call) -> web.StreamResponse:
        if not call.watches or told[call.path]:
            return await call.forward()
        told[call.path] += 1
        return web.Response(text=json.dumps(event) + "\n", content_type="application/json")

    proxy.rule = in_the_stream
    proxy.cut_watches()
    api.delete(DEPLOYMENT, "kws-en")
    api.apply(VARIANT, variant("second", servedName="second"))
    story.until(lambda: story.is_served("kws-en", "second"), "both are served")
    wait_until(lambda: operator.get("/readyz")[0] == 200, seconds=60, what="it is ready again", every=0.1)
    assert told["/apis/roundhouse.dev/v1alpha1/namespaces/" + api.namespace + "/modelvariants"] == 1
    api.apply(VARIANT, variant("third", servedName="third"))
    story.until(lambda: story.is_served("third"), "the watch goes on")
    assert operator.alive_or_log()
