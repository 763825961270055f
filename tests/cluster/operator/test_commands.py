"""`roundhouse status` and `what-if` as a person runs them, with a kubeconfig and with few rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.local import Cluster, ClusterError
from tests.cluster.operator.harness import Kubectl, Operator, own_events
from tests.cluster.operator.test_pods import STARTED, PlayedNode, node, terminated  # noqa: F401  # a fixture
from tests.unit.operator.samples import engine, variant

TPU = {
    "gpu": {
        "mode": "Required",
        "allocation": {"type": "DevicePlugin", "devicePlugin": {"resourceName": "example.org/tpu"}},
    }
}


@dataclass(frozen=True)
class Roundhouse:
    """The command, in a namespace."""

    environment: dict[str, str]
    namespace: str
    folder: Path = field(default_factory=Path)

    def __call__(self, *arguments: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "roundhouse_operator.cli", *arguments, "-n", self.namespace]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self(*arguments, "-o", "json", status=status))

    def file(self, *manifests: dict[str, Any]) -> str:
        path = self.folder / "wanted.yaml"
        path.write_text(yaml.safe_dump_all(manifests))
        return str(path)


def _runs(kubectl: Kubectl, name: str, image: str) -> bool:
    template = kubectl.get("deploy", name)["spec"]["template"]
    return bool(template["spec"]["containers"][0]["image"] == image)


@pytest.fixture
def roundhouse(control_plane: Cluster, namespace: str, tmp_path: Path) -> Roundhouse:
    return Roundhouse({**os.environ, **control_plane.environment}, namespace, tmp_path)


def test_what_is_ready_is_said_in_a_line_and_at_length(
    operator: Operator, kubectl: Kubectl, roundhouse: Roundhouse
) -> None:
    kubectl.apply(engine(), variant(servedName="acme/KWS"))
    kubectl.wait("mv", "kws-en", "Ready", "True")
    lines = [line.split() for line in roundhouse("status").splitlines()]
    assert ["kws-en", "True", "Serving", "kws", "1/1"] in lines
    kubectl.wait_for(lambda: own_events(kubectl), "an event is written")
    page = roundhouse("status", "kws-en")
    assert page.startswith("ModelVariant ")
    assert "/kws-en: Ready, Serving" in page
    assert "answers to acme/KWS" in page
    assert "Fits  operator-cpu-1" in page
    assert "What to do" not in page
    assert "Latest events" in page
    assert "There is no ModelVariant 'nobody'" in roundhouse("status", "nobody", status=1)


def test_what_is_not_ready_is_explained_node_by_node(
    operator: Operator, kubectl: Kubectl, roundhouse: Roundhouse
) -> None:
    kubectl.apply(engine(hardware=TPU), variant())
    kubectl.wait("mv", "kws-en", "Ready", "False", "NoGPU")
    page = roundhouse("status", "kws-en", status=3)
    assert "not Ready, NoGPU" in page
    assert "What to do: Ask for a GPU that the message names" in page
    assert "NoGPU  operator-cpu-1" in page
    assert "No node: " in page
    told = roundhouse.json("status", "kws-en", status=3)
    assert {one["verdict"] for one in told["nodes"]} == {"NoGPU"}
    assert [one["type"] for one in told["conditions"]][:3] == ["Ready", "Accepted", "EngineSelected"]


def test_a_crash_is_told_with_exit_code_and_last_words(
    operator: Operator,
    kubectl: Kubectl,
    roundhouse: Roundhouse,
    node: PlayedNode,  # noqa: F811
) -> None:
    kubectl.apply(node.engine(), variant())
    node.say(
        restartCount=3,
        state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        lastState=terminated(3, message="loading\nfatal: token=abcdef refused"),
    )
    kubectl.wait("mv", "kws-en", "Available", "False", "CrashLoop")
    [pod] = roundhouse.json("status", "kws-en", status=3)["pods"]
    assert (pod["state"], pod["restarts"], pod["exitCode"]) == ("CrashLoopBackOff", 3, 3)
    assert pod["lastWords"] == "loading | fatal: token=*** refused"


def test_a_person_who_may_only_look_is_told_what_was_left_out(
    control_plane: Cluster, operator: Operator, kubectl: Kubectl, roundhouse: Roundhouse, tmp_path: Path
) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    kubectl("create", "serviceaccount", "looker")
    kubectl(
        "create", "rolebinding", "looks", "--clusterrole=view", f"--serviceaccount={kubectl.namespace}:looker"
    )
    kinds = "engines,modelvariants,adapters,selectionpolicies"
    kubectl("create", "role", "looks", "--verb=get,list,watch", f"--resource={_of_group(kinds)}")
    kubectl("create", "rolebinding", "looks2", "--role=looks", f"--serviceaccount={kubectl.namespace}:looker")
    config = yaml.safe_load(Path(control_plane.environment["KUBECONFIG"]).read_text())
    for user in config["users"]:
        user["user"] = {"token": kubectl("create", "token", "looker").strip()}
    path = tmp_path / "looker.yaml"
    path.write_text(yaml.safe_dump(config))
    looker = Roundhouse({**roundhouse.environment, "KUBECONFIG": str(path)}, kubectl.namespace, tmp_path)
    for kind in ("pods", *_of_group(kinds).split(",")):
        kubectl.wait_for(partial(_may_list, kubectl, kind, "looker"), f"the rights to {kind} hold")
    page = looker("status", "kws-en")
    assert "/kws-en: Ready, Serving" in page
    assert "list nodes (in the whole cluster)" in page
    wanted = looker.file(variant(replicas=2), variant("odd", env=[{"name": "ROUNDHOUSE_PORT", "value": "1"}]))
    told = looker.json("what-if", "-f", wanted, status=3)
    assert "patch modelvariants (to try it on the API server)" in told["lacking"]
    by_name = {one["name"]: one for one in told["variants"]}
    assert by_name["kws-en"]["children"][0]["fields"] == [
        {"path": ".spec.replicas", "before": "1", "after": "2"}
    ]
    assert by_name["odd"]["refused"]


def _may_list(kubectl: Kubectl, kind: str, account: str) -> bool:
    who = f"--as=system:serviceaccount:{kubectl.namespace}:{account}"
    try:
        return kubectl("auth", "can-i", "list", kind, who).strip() == "yes"
    except ClusterError:
        return False  # it says no by its exit status


def _of_group(kinds: str) -> str:
    return ",".join(f"{kind}.roundhouse.dev" for kind in kinds.split(","))


def test_what_a_file_would_do_is_what_it_then_does(
    operator: Operator, kubectl: Kubectl, roundhouse: Roundhouse
) -> None:
    kubectl.apply(engine(), variant(), variant("kws-de"))
    for name in ("kws-en", "kws-de"):
        kubectl.wait("mv", name, "Ready", "True")
    operator.settle()
    objects = kubectl("get", "eng,mv,deploy,svc", "-o", "json")
    wanted = roundhouse.file(
        variant("kws-fr", aliases=["kws-en"]), engine(workload={"image": "example.org/kws:2"})
    )
    told = roundhouse.json("what-if", "-f", wanted)
    page = roundhouse("what-if", "-f", wanted)
    assert kubectl("get", "eng,mv,deploy,svc", "-o", "json") == objects
    path = '.spec.template.spec.containers[name="engine"].image'
    change = {"path": path, "before": '"example.org/kws:1"', "after": '"example.org/kws:2"'}
    for one in told["variants"][:3]:
        if not one["new"]:
            assert one["children"][0]["fields"] == [change]
            assert "1 are replaced by 1 (Surge, NeedsNoGPU); it waits for its turn" in one["pods"]
    assert {one["name"] for one in told["variants"]} == {"kws-en", "kws-de", "kws-fr"}
    new = next(one for one in told["variants"] if one["new"])
    assert [(one["verb"], one["child"]) for one in new["children"]] == [
        ("create", "Service kws-fr"),
        ("create", "Deployment kws-fr"),
    ]
    assert any(one["after"] == "True/AliasConflict" for one in new["conditions"])
    assert f'{path}  "example.org/kws:1" → "example.org/kws:2"' in page
    kubectl("apply", "--server-side", "-f", wanted)
    for name in ("kws-en", "kws-de", "kws-fr"):
        kubectl.wait_for(
            partial(_runs, kubectl, name, "example.org/kws:2"),
            "the new image",
        )
        kubectl("rollout", "status", f"deploy/{name}", "--timeout=300s")
        kubectl.wait("mv", name, "UpToDate", "True", "RolledOut")
    kubectl.wait("mv", "kws-fr", "Degraded", "True", "AliasConflict")
    operator.settle()
    assert roundhouse("what-if").strip() == "The operator would change nothing."


def test_what_would_be_refused_is_said_in_the_words_of_the_api_server(
    operator: Operator, kubectl: Kubectl, roundhouse: Roundhouse
) -> None:
    kubectl.apply(engine())
    wrong: dict[str, Any] = {"spec": {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "-1"}}]}}
    page = roundhouse(
        "what-if", "-f", roundhouse.file(variant(engineSelector={"stage": "Transcribe"})), status=3
    )
    assert "kws-en: refused: " in page
    assert "exactly one of `engineRef` and `engineSelector` must be set" in page
    other = engine("odd", workload={"image": "x", "podTemplate": wrong})
    page = roundhouse("what-if", "-f", roundhouse.file(other, variant(on="odd")), status=3)
    assert "+ Deployment kws-en: refused: " in page
    assert "sizeLimit" in page
    assert "False/InvalidPodTemplate" in page
    assert not kubectl.list("mv")
    assert "is no engine/NAME" in roundhouse("what-if", "pod/x", status=2)


def test_what_the_operator_would_do_now(kubectl: Kubectl, roundhouse: Roundhouse, nodes: None) -> None:
    kubectl.apply(engine(), variant(), variant("other", on="nobody"))
    page = roundhouse("what-if", "engine/kws")
    assert "+ Deployment kws-en" in page
    assert "other" not in page
    assert "EngineNotFound" in roundhouse("what-if", "modelvariant/other")
    assert "Pending" in roundhouse("status", status=3)
