"""The parts around the core that need no cluster: what a change concerns, events, settings, the command."""

from __future__ import annotations

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.cache import REMEMBERED, Cache
from roundhouse_operator.cli import main
from roundhouse_operator.commands.exits import USAGE_ERROR
from roundhouse_operator.core.kinds import DEPLOYMENT, ENGINE, NODE, POD, VARIANT, Key
from roundhouse_operator.metrics import Metrics, Present
from roundhouse_operator.queue import WorkQueue
from roundhouse_operator.recorder import transitions
from roundhouse_operator.settings import Settings
from roundhouse_operator.tally import Tally
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import MANAGER, NAMESPACE, Scene, node, pod, sent

KWS, KWS_EN = Key(ENGINE, NAMESPACE, "kws"), Key(VARIANT, NAMESPACE, "kws-en")


def key(name: str) -> Key:
    return Key(VARIANT, NAMESPACE, name)


def at(version: int, manifest: Manifest, **metadata: object) -> Manifest:
    return sent(
        {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version), **metadata}}
    )


def test_an_engine_concerns_its_variants_and_those_that_might_choose_it() -> None:
    cache = Cache(MANAGER)
    cache.upsert(VARIANT, at(1, variant()))
    cache.upsert(VARIANT, at(2, variant("other", on="there")))
    cache.upsert(VARIANT, at(3, variant("any", engineRef=None, engineSelector={"stage": "Transcribe"})))
    assert cache.upsert(ENGINE, at(4, engine())).now == {KWS, KWS_EN, key("any")}
    told = at(5, {**engine(), "status": {"variants": 1}})
    assert cache.upsert(ENGINE, told).now == {KWS}, "its status concerns nobody else"
    assert cache.remove(ENGINE, at(6, engine())).now == {KWS, KWS_EN, key("any")}


def test_a_name_concerns_all_who_want_it_before_and_after() -> None:
    cache = Cache(MANAGER)
    cache.upsert(VARIANT, at(1, variant("a", servedName="x")))
    assert cache.upsert(VARIANT, at(2, variant("b", servedName="x"))).now == {key("a"), key("b")}
    assert cache.upsert(VARIANT, at(3, variant("b", servedName="y"))).now == {key("a"), key("b")}
    assert cache.upsert(VARIANT, at(4, variant("b", servedName="y", license="MIT"))).now == {key("b")}
    cache.upsert(VARIANT, at(5, variant("b", servedName="x")))
    assert cache.remove(VARIANT, at(6, variant("a", servedName="x"))).now == {key("a"), key("b")}


def test_a_variant_that_gets_ready_concerns_its_engine_a_little_later() -> None:
    cache = Cache(MANAGER)
    cache.upsert(ENGINE, at(1, engine()))
    assert cache.upsert(VARIANT, at(2, variant())).soon == {KWS}
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "readyReplicas": 1}
    assert cache.upsert(VARIANT, at(3, {**variant(), "status": ready})).soon == {KWS}
    assert cache.upsert(VARIANT, at(4, {**variant(), "status": {**ready, "phase": "Running"}})).soon == set()
    assert cache.usage(KWS).ready_variants == 1


def test_children_and_pods_concern_their_variant_if_they_say_something_new() -> None:
    cache = Cache(MANAGER)
    assert cache.upsert(POD, at(1, pod())).now == {KWS_EN}
    assert cache.upsert(POD, at(2, pod())).now == set(), "only the version differs"
    assert cache.upsert(POD, at(3, pod(phase="Failed", reason="Evicted"))).now == {KWS_EN}
    assert cache.remove(POD, at(4, pod())).now == {KWS_EN}


def test_a_node_concerns_engines_and_variants_that_wait_for_one() -> None:
    scene = Scene(node("n1"), engine(), variant(), variant("waits", servedName="w"))
    scene.write("kws-en", {"conditions": [{"type": "Scheduled", "status": "True"}]})
    assert scene.cache.upsert(NODE, sent(node("n2", 1))).soon == {KWS, key("waits")}
    heartbeat = sent(node("n2", 1))
    heartbeat["status"]["conditions"] = [{"type": "Ready", "lastHeartbeatTime": "now"}]
    assert scene.cache.upsert(NODE, heartbeat).soon == set()


def test_the_older_never_replaces_the_newer() -> None:
    cache = Cache(MANAGER)
    cache.upsert(ENGINE, at(5, engine(version="2"), generation=2))
    assert cache.upsert(ENGINE, at(4, engine(version="1"))).now == set()
    cache.remove(ENGINE, at(3, engine()))
    found = cache.resource(KWS)
    assert found
    assert found.generation == 2


def test_a_listing_shows_what_a_broken_watch_hid() -> None:
    cache = Cache(MANAGER)
    cache.upsert(VARIANT, at(1, variant()))
    cache.upsert(VARIANT, at(9, variant("newer", servedName="n")))
    elsewhere = at(2, variant("elsewhere"), namespace="other")
    cache.upsert(VARIANT, elsewhere)
    touched = cache.keep(VARIANT, NAMESPACE, set(), version=5)
    assert touched.now == {KWS_EN}
    assert cache.resource(key("newer")), "made after the listing"
    assert cache.resource(Key(VARIANT, "other", "elsewhere")), "not of the listed namespace"


def test_a_deletion_is_not_undone_by_an_answer_that_arrives_behind_it() -> None:
    cache = Cache(MANAGER)
    cache.upsert(VARIANT, at(1, variant()))
    assert cache.remove(VARIANT, at(3, variant())).now == {KWS_EN}
    assert cache.upsert(VARIANT, at(2, variant())).now == set(), "what we wrote before it was deleted"
    assert cache.resource(KWS_EN) is None
    assert cache.upsert(VARIANT, at(4, variant())).now == {KWS_EN}, "made anew"


def test_what_is_gone_leaves_nothing_behind() -> None:
    scene = Scene(node("n1"))
    for number in range(REMEMBERED // 2 + 10):
        name = f"v{number}"
        scene.put(variant(name, servedName=name, aliases=[f"a{number}"]), pod(f"p{number}", name))
        scene.world(name)
        for key in (Key(POD, NAMESPACE, f"p{number}"), Key(VARIANT, NAMESPACE, name)):
            scene.cache.forget(key)
    index = scene.cache._variants
    names = scene.cache._names
    left = (scene.cache._belongings, names._claimants, index._users, index._facts)
    assert [len(one) for one in left] == [0, 0, 0, 0]
    assert len(scene.cache._gone) == REMEMBERED


def test_a_deployment_counts_only_for_the_variant_that_owns_it() -> None:
    scene = Scene(node("n1"), engine(), variant())
    scene.settle("kws-en", replicas=1, readyReplicas=1, updatedReplicas=1)
    assert scene.world("kws-en").rollout
    manifest = variant()
    scene.put({**manifest, "metadata": {**manifest["metadata"], "uid": "made-anew"}})
    assert scene.world("kws-en").rollout is None
    assert [one.kind for one in scene.world("kws-en").children if one.owner_uid] == [
        DEPLOYMENT,
        scene.world("kws-en").children[1].kind,
    ]


def told(before: dict[str, tuple[str, str]], after: dict[str, tuple[str, str]]) -> list[tuple[str, bool]]:
    def status(conditions: dict[str, tuple[str, str]]) -> Manifest:
        return {
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": "m"}
                for kind, (status, reason) in conditions.items()
            ]
        }

    return [(one.reason, one.normal) for one in transitions(status(before), status(after))]


def test_events_tell_transitions_and_nothing_else() -> None:
    serving = {"Ready": ("True", "Serving")}
    assert told({}, {"Ready": ("False", "Starting")}) == [("Starting", True)]
    assert told({"Ready": ("False", "Starting")}, serving) == [("Serving", True)]
    assert told(serving, serving) == []
    assert told(serving, {"Ready": ("False", "CrashLoop")}) == [("CrashLoop", False)]
    assert told(serving, {**serving, "Degraded": ("True", "AliasConflict")}) == [("AliasConflict", False)]
    assert told({**serving, "Degraded": ("True", "AliasConflict")}, serving) == [("AliasConflict", True)]


def test_one_series_for_each_variant_there_is_and_from_the_leader_alone() -> None:
    scene, metrics = Scene(node("n1"), engine(), variant(), variant("new", servedName="n")), Metrics()
    scene.settle("kws-en", replicas=1, readyReplicas=1, updatedReplicas=1)
    leading = True
    metrics.show(Present(WorkQueue(), scene.cache, scene.tally, (), lambda: leading, lambda: 0))

    def value(metric: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"roundhouse_operator_{metric}", labels)

    def ready(name: str, reason: str) -> float | None:
        return value("variant_ready", namespace=NAMESPACE, name=name, reason=reason)

    assert ready("kws-en", "Serving") == 1
    assert ready("new", "Pending") == 0
    serving = {"kind": "ModelVariant", "type": "Ready", "status": "True", "reason": "Serving"}
    assert value("conditions", **serving) == 1
    assert value("objects", kind="ModelVariant") == 2
    leading = False
    assert ready("new", "Pending") is None
    leading = True
    scene.cache.forget(KWS_EN)
    assert ready("kws-en", "Serving") is None
    assert value("conditions", **serving) is None
    assert value("objects", kind="ModelVariant") == 1


def test_time_to_ready_counts_from_when_a_change_is_seen() -> None:
    now, told = 0.0, list[tuple[str, float]]()
    scene = Scene(node("n1"), engine(), tally=Tally(lambda *one: told.append(one), clock=lambda: now))
    scene.put(variant("before"))
    scene.settle("before", replicas=1, readyReplicas=1, updatedReplicas=1)
    scene.tally.timing = True
    scene.put(variant())
    assert told == [], "it is not ready, and when the other one was asked for nobody saw"
    now = 5.0
    scene.settle("kws-en", replicas=1, readyReplicas=1, updatedReplicas=1)
    assert told == [("create", 5.0)]
    now = 60.0
    edited = variant(args=["--fast"])
    scene.put({**edited, "metadata": {**edited["metadata"], "generation": 2}})
    now = 61.0
    scene.settle("kws-en", replicas=1, readyReplicas=1, updatedReplicas=1)
    assert told[1:] == [("edit", 1.0)]
    scene.put(variant("gone"))
    scene.cache.forget(key("gone"))
    assert not scene.tally._asked


@pytest.mark.parametrize(
    ("environment", "namespaces"),
    [
        ({}, ("default",)),
        ({"NAMESPACE": "speech"}, ("speech",)),
        ({"NAMESPACE": "speech", "NAMESPACES": "a, b,a"}, ("a", "b")),
        ({"NAMESPACES": "*"}, None),
    ],
)
def test_namespaces(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], namespaces: tuple[str, ...] | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"ROUNDHOUSE_OPERATOR_{name}", value)
    settings = Settings()
    assert settings.served_namespaces == namespaces
    assert settings.field_manager == f"roundhouse/{settings.namespace}/roundhouse"
    assert settings.lease == "roundhouse-roundhouse-operator"


def test_the_command_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("roundhouse 0.")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"METRICS_PORT": "http"}, "ROUNDHOUSE_OPERATOR_METRICS_PORT: "),
        ({"RELEASE": "No Such"}, "ROUNDHOUSE_OPERATOR_RELEASE: "),
    ],
)
def test_wrong_settings_are_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    words: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"ROUNDHOUSE_OPERATOR_{name}", value)
    assert main(["operator"]) == USAGE_ERROR
    assert words in capsys.readouterr().err


def test_no_cluster_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none")
    assert main(["operator"]) == USAGE_ERROR
    assert "No cluster to talk to" in capsys.readouterr().err
