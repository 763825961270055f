"""What needs no cluster of `roundhouse status` and `what-if`: files, pages, previews."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from roundhouse_operator.cli import main, read
from roundhouse_operator.cluster import Page
from roundhouse_operator.commands import status as command
from roundhouse_operator.commands.asking_for import UnreadableError, read_manifests
from roundhouse_operator.commands.page import columns, section
from roundhouse_operator.commands.picture import Picture, take_picture
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.kinds import ENGINE, Kind
from roundhouse_operator.core.preview import at_its_turn, child_changes, node_verdicts, spec_changes
from roundhouse_operator.errors import ClusterError, RefusedError
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NAMESPACE, Scene, node

SERVING: dict[str, Any] = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}


def test_columns_line_up_and_the_last_may_run_on() -> None:
    assert columns([("a", "long message here"), ("bbb", "c")]) == ["a    long message here", "bbb  c"]
    assert columns([]) == []
    assert section("Title", []) == []
    assert section("Title", ["x"]) == ["", "Title", "  x"]


def test_manifests_of_other_kinds_are_passed_over_and_lists_are_taken_apart() -> None:
    text = """
kind: List
apiVersion: v1
items:
  - {apiVersion: roundhouse.dev/v1alpha1, kind: Engine, metadata: {name: a}}
  - {apiVersion: v1, kind: Secret, metadata: {name: b}}
---
---
{apiVersion: roundhouse.dev/v1alpha1, kind: ModelVariant, metadata: {name: c}}
"""
    assert [one["metadata"]["name"] for one in read_manifests(text, "x.yaml")] == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "x.yaml is not YAML"),
        ("just words", "something else than manifests: str"),
        ("{apiVersion: roundhouse.dev/v1alpha1, kind: Engine}", "a Engine has no metadata.name"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(text: str, words: str) -> None:
    with pytest.raises(UnreadableError, match=words):
        list(read_manifests(text, "x.yaml"))


def test_wrong_usage_is_said_without_a_cluster(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("{apiVersion: v1, kind: Secret, metadata: {name: b}}")
    for arguments, words in (
        (["what-if", "pod/x"], "'pod/x' is no engine/NAME or modelvariant/NAME"),
        (["what-if", "engine/x", "-f", str(empty)], "Name either a resource or files"),
        (["what-if", "-f", str(empty)], "The files hold no Engine"),
        (["what-if", "-f", str(tmp_path / "none")], "No such file"),
    ):
        assert main(arguments) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "what-if"])
def test_the_namespace_may_stand_before_the_command_and_behind_it(command: str) -> None:
    assert read([command]).namespace is None
    for arguments in (
        ["-n", "speech", command],
        [command, "-n", "speech"],
        ["-n", "x", command, "-n", "speech"],
    ):
        assert read(arguments).namespace == "speech"


def test_a_command_that_reads_no_cluster_takes_no_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read(["-n", "speech", "key", "create", "--name", "ci"])
    assert "takes no -n" in capsys.readouterr().err


def test_differences_of_two_specs_are_shown_by_path_and_without_secrets() -> None:
    before = {"a": {"b": 1, "c": [1]}, "d": "x"}
    after = {"a": {"b": 2, "c": [1]}, "e": {"password": "hunter22"}}
    found = [(one.path, one.before, one.after) for one in spec_changes(before, after)]
    assert found == [
        (".spec.a.b", "1", "2"),
        (".spec.d", '"x"', ""),
        (".spec.e", "", '{"password": ***"}'),
    ]


def test_a_change_of_an_engine_is_shown_as_of_the_turn_of_each_variant() -> None:
    scene = Scene(node("n1"), engine(), variant())
    scene.settle("kws-en", **SERVING)
    changed = engine(workload={"image": "example.org/kws:2"})
    scene.put({**changed, "metadata": {**changed["metadata"], "generation": 2}})
    world = scene.world("kws-en")
    assert not any(one.replaces_pods for one in child_changes(world, decide(world).plan)), "it waits in line"
    [deployment] = [one for one in child_changes(world, decide(at_its_turn(world)).plan) if one.replaces_pods]
    assert [(one.path, one.after) for one in deployment.fields if "image" in one.path] == [
        ('.spec.template.spec.containers[name="engine"].image', '"example.org/kws:2"')
    ]


def test_each_node_gets_a_verdict() -> None:
    gpu = {"gpu": {"mode": "Required", "minMemory": "20G"}}
    scene = Scene(
        node("cpu"),
        node("small", 1, nvidia_com__gpu_memory="15360", nvidia_com__gpu_product="Tesla-T4"),
        node("large", 2, nvidia_com__gpu_memory="40960"),
        engine(hardware=gpu),
        variant(),
    )
    world = scene.world("kws-en")
    intent = decide(world).intent
    assert intent
    found = {one.name: (one.verdict, one.devices) for one in node_verdicts(intent.need, world.fleet)}
    assert found["cpu"] == ("NoGPU", "")
    assert found["small"] == ("InsufficientVRAM", "1 × nvidia.com/gpu, Tesla-T4, 15360 MiB")
    assert found["large"][0] == "Fits"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `roundhouse status` prints of a scene."""

    def show(scene: Scene, *arguments: str, status: int = 0) -> str:
        async def picture(*_: object) -> Picture:
            return Picture(cast("Any", NoEvents()), NAMESPACE, scene.cache)

        def ask(_: object, __: str, question: Callable[..., Coroutine[Any, Any, int]]) -> int:
            return asyncio.run(question(None, NAMESPACE))

        monkeypatch.setattr(command, "take_picture", picture)
        monkeypatch.setattr(command, "ask", ask)
        assert main(["status", *arguments]) == status
        return capsys.readouterr().out

    return show


class NoEvents:
    async def pages(self, *_: object, **__: object) -> AsyncIterator[Page]:
        yield Page((), "1")


def test_what_serves_and_is_not_as_asked_is_shown_with_what_to_do(shown: Callable[..., str]) -> None:
    scene = Scene(node("n1"), engine(), variant(), variant("kws-hr"))
    for name in ("kws-en", "kws-hr"):
        scene.settle(name, **SERVING)
        scene.write(name, scene.status(name))
    told = {
        "type": "Degraded",
        "status": "True",
        "reason": "ImagePull",
        "message": "The newer one cannot be pulled",
    }
    status = scene.status("kws-en")
    scene.write("kws-en", {**status, "conditions": [*status["conditions"], told]})
    rows = shown(scene).splitlines()
    assert rows[0].split() == ["VARIANT", "READY", "REASON", "DEGRADED", "ENGINE", "PODS"]
    [degraded] = [row for row in rows if row.startswith("kws-en ")]
    assert degraded.split()[:4] == ["kws-en", "True", "Serving", "ImagePull"]
    assert degraded.endswith("The newer one cannot be pulled")
    [well] = [row for row in rows if row.startswith("kws-hr ")]
    assert "ImagePull" not in well
    assert (
        "Degraded, ImagePull: The newer one cannot be pulled\n  What to do: Check `workload.image`"
        in shown(scene, "kws-en")
    )
    assert "What to do" not in shown(scene, "kws-hr")


def test_an_engine_that_is_degraded_says_why(shown: Callable[..., str]) -> None:
    paused = "Stopped at variant 'kws-en', which fails with it (ImagePull); 1 of 2 variants wait"
    told = [
        {"type": "Ready", "status": "True", "reason": "HardwareFound", "message": "well"},
        {"type": "Degraded", "status": "True", "reason": "RolloutPaused", "message": paused},
    ]
    well = {"conditions": told[:1]}
    scene = Scene(
        node("n1"), {**engine(), "status": {"conditions": told}}, {**engine("other"), "status": well}
    )
    rows = shown(scene).splitlines()
    [degraded] = [row for row in rows if row.startswith("kws ")]
    assert degraded.endswith(paused)
    assert rows[-1].split() == ["other", "True", "HardwareFound", "0"]


HTTP = {"type": "HTTP", "http": {"url": "https://weights.example.org/a.tar", "sha256": 64 * "0"}}
HUB = {"type": "HuggingFace", "huggingFace": {"repo": "acme/kws"}}


@pytest.mark.parametrize(
    ("source", "advice"),
    [(HTTP, "Mend `spec.source.http.url`"), (HUB, "Mend `spec.source`; of Hugging Face")],
)
def test_where_weights_are_not_found_the_advice_is_for_their_source(
    shown: Callable[..., str], source: dict[str, Any], advice: str
) -> None:
    scene = Scene(node("n1"), engine(), variant(source=source))
    missing = {"type": "Ready", "status": "False", "reason": "SourceNotFound", "message": "no such file"}
    scene.write("kws-en", {"observedGeneration": 1, "conditions": [missing]})
    assert f"What to do: {advice}" in shown(scene, "kws-en", status=3)


async def test_a_definition_that_is_not_there_is_named() -> None:
    class WithoutEngines:
        async def pages(self, kind: Kind, *_: object, **__: object) -> AsyncIterator[Page]:
            if kind == ENGINE:
                raise RefusedError(404, "Not Found", "404 page not found")
            yield Page((), "1")

    with pytest.raises(ClusterError, match=r"it knows no engines\.roundhouse\.dev: .* Install the chart"):
        await take_picture(cast("Any", WithoutEngines()), NAMESPACE)


def test_who_looks_in_the_wrong_namespace_is_told_how_to_look_elsewhere(shown: Callable[..., str]) -> None:
    assert shown(Scene()) == f"There is nothing in namespace {NAMESPACE!r}; -n names another.\n"
