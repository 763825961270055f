"""Each example is accepted as it stands: nothing in it is refused, and nothing is not honoured yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import ENGINE, Key
from roundhouse_operator.core.status.engine import Usage, engine_status
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, conditions, node

EXAMPLES = Path(__file__).parents[3] / "examples"
CATALOGUE = EXAMPLES.parent / "charts/roundhouse/files/catalogue"
OURS = ("Engine", "ModelVariant")


AHEAD = frozenset({"musicgen"})
"""Their status says what of them is not honoured yet: the gateway has no route for music."""


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_is_accepted(example: Path) -> None:
    found = [each for each in yaml.safe_load_all(example.read_text()) if each["kind"] in OURS]
    for each in found:
        each["metadata"]["namespace"] = NAMESPACE
    scene = Scene(node("n1"), *found)
    for each in found:
        name = each["metadata"]["name"]
        engine = scene.cache.resource(Key(ENGINE, NAMESPACE, name)) if each["kind"] == "Engine" else None
        status = engine_status(engine, Usage(), scene.cache.fleet, now=NOW) if engine else scene.settle(name)
        told = conditions(status)
        assert told["Accepted"] == ("True", "Valid"), name
        not_yet = told.get("Degraded", ("False", ""))[1] == "NotYetSupported"
        assert not_yet == (example.stem in AHEAD), status


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("vllm*.yaml")), ids=lambda path: path.stem)
def test_vllm_is_called_as_its_server_asks(example: Path) -> None:
    """Its model comes first and without a flag; the published image cannot read audio."""
    found = [each["spec"] for each in yaml.safe_load_all(example.read_text()) if each["kind"] == "Engine"]
    for each in found:
        assert each["workload"]["args"][0] == "/weights"
        published = each["workload"]["image"].startswith("vllm/vllm-openai:")
        assert published == (each["stage"] == "Chat")


FLAGS = {
    # vLLM 0.22: docs.vllm.ai, `vllm serve --help=all`.
    "VLLM": {
        "--port",
        "--served-model-name",
        "--max-model-len",
        "--tokenizer-mode",
        "--compilation-config",
        "--enable-auto-tool-choice",
        "--tool-call-parser",
        "--reasoning-parser",
    },
    # TEI 1.9: docs/source/en/cli_arguments.md of its repository.
    "TEI": {"--model-id", "--port", "--max-client-batch-size", "--auto-truncate"},
    # llama.cpp: tools/server/README.md of its repository.
    "LlamaCpp": {"--host", "--port", "--ctx-size", "--parallel", "--model", "--jinja", "--metrics"},
}
"""What the servers' own documentation has, of which examples and catalogue may use no other."""
NO_VALUE = {"--enable-auto-tool-choice", "--auto-truncate", "--jinja", "--metrics"}


def args_of(engine: Manifest, variant: Manifest) -> list[str]:
    return [*engine.get("workload", {}).get("args", ()), *variant.get("args", ())]


def foreign() -> Iterator[tuple[str, Manifest, Manifest]]:
    """Name, engine and variant of each model of an image that is not ours, of examples and catalogue."""
    for example in sorted(EXAMPLES.glob("*.yaml")):
        found = [each for each in yaml.safe_load_all(example.read_text()) if each["kind"] in OURS]
        engines = {each["metadata"]["name"]: each["spec"] for each in found if each["kind"] == "Engine"}
        for each in found:
            if each["kind"] == "ModelVariant":
                yield each["metadata"]["name"], engines[each["spec"]["engineRef"]["name"]], each["spec"]
    engines = yaml.safe_load((CATALOGUE / "engines.yaml").read_text())
    for models in sorted((CATALOGUE / "models").glob("*.yaml")):
        for each in yaml.safe_load(models.read_text())["models"]:
            if "engine" in each:
                yield each.get("name", each.get("repo")), engines[each["engine"]], each


FOREIGN = [one for one in foreign() if one[1].get("api", {}).get("dialect") in FLAGS]


@pytest.mark.parametrize(("name", "engine", "variant"), FOREIGN, ids=[one[0] for one in FOREIGN])
def test_a_server_of_others_is_given_flags_that_it_knows(
    name: str, engine: Manifest, variant: Manifest
) -> None:
    args = args_of(engine, variant)
    flags = [each for each in args if each.startswith("--")]
    assert set(flags) <= FLAGS[engine["api"]["dialect"]]
    assert len(flags) == len(set(flags))
    for flag, following in zip(args, [*args[1:], "--"], strict=True):
        if flag.startswith("--"):
            assert following.startswith("--") == (flag in NO_VALUE), flag
    port = args[args.index("--port") + 1]
    assert port == str(engine["api"].get("port", 8000)), "the server listens where the gateway asks"
    assert any(each.startswith("/weights") for each in args)
    features = {**engine.get("capabilities", {}), **variant.get("capabilities", {})}.get("features", ())
    if engine["api"]["dialect"] == "VLLM":
        assert ("Tools" in features) == ({"--enable-auto-tool-choice", "--tool-call-parser"} <= set(flags))
        served = args[args.index("--served-model-name") + 1]
        assert served == variant.get("repo", variant["source"]["huggingFace"].get("repo"))
    if engine["api"]["dialect"] == "LlamaCpp":
        assert ("Tools" in features) == ("--jinja" in flags)


def test_examples_of_each_kind_of_foreign_server_are_looked_at() -> None:
    assert {engine["api"]["dialect"] for _, engine, _ in FOREIGN} == set(FLAGS)


def test_examples_stand_side_by_side() -> None:
    """Neither their objects nor the names of their models are wanted twice."""
    wanted = Counter[str]()
    for example in EXAMPLES.glob("*.yaml"):
        for each in yaml.safe_load_all(example.read_text()):
            name, spec = each["metadata"]["name"], each.get("spec", {})
            wanted[f"{each['kind']} {name}"] += 1
            if each["kind"] == "ModelVariant":
                wanted.update({spec.get("servedName", name), *spec.get("aliases", ())})
    assert [one for one, count in wanted.items() if count > 1] == []


def test_an_example_s_name_means_what_it_means_in_the_catalogue() -> None:
    """Who applies an example and runs the catalogue later asks the same model, in whatever format."""
    meant: dict[str, str] = {}
    for name, _, variant in foreign():
        repo = variant.get("repo") or variant["source"].get("huggingFace", {}).get("repo", "in the image")
        model = repo.removesuffix("-GGUF")
        assert meant.setdefault(variant.get("servedName", name), model) == model, name
