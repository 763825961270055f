"""A wrong value is refused before anything is made; the message says what, where and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from roundhouse_api.model import Manifest
from tests.charts.helm import HelmError, render

TINY = ["whisper-tiny"]


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    said: tuple[str, ...]
    """All of which the message holds."""
    run: list[str] = field(default_factory=lambda: list(TINY))
    catalogue: Manifest = field(default_factory=dict)
    engines: list[Manifest] = field(default_factory=list)
    models: list[Manifest] = field(default_factory=list)
    local: list[Manifest] = field(default_factory=list)


CASES = (
    Case(
        "an unknown field",
        ("at '/models/0'", "additional properties 'replikas' not allowed"),
        models=[{"name": "whisper-tiny", "replikas": 2}],
    ),
    Case(
        "an unknown field further in",
        ("at '/modelsLocal/0/hardware/gpu'", "'minMem' not allowed"),
        local=[{"name": "whisper-tiny", "hardware": {"gpu": {"minMem": "4G"}}}],
    ),
    Case(
        "a word that is none of the API's",
        ("at '/models/0/selection/speedTier'", "must be one of 'Fast', 'Balanced'"),
        models=[{"name": "whisper-tiny", "selection": {"speedTier": "Quick"}}],
    ),
    Case(
        "a word of the API that an entry says otherwise",
        ("at '/models/0'", "'servedName' not allowed"),
        models=[{"name": "whisper-tiny", "servedName": "tiny"}],
    ),
    Case(
        "an item of a list that lacks what it must have",
        ("at '/models/0/env/0'", "missing property 'value'"),
        models=[{"name": "whisper-tiny", "env": [{"name": "A"}]}],
    ),
    Case(
        "an engine without a name",
        ("at '/engines/0'", "missing property 'name'"),
        engines=[{"stage": "Chat"}],
    ),
    Case(
        "neither name nor repository",
        ("modelsLocal[1]", "needs `name`", "`repo`"),
        local=[{"name": "whisper-tiny"}, {"replicas": 2}],
    ),
    Case(
        "a new model without an engine",
        ("models[0]", '"whisper-tinny"', "needs `engine`"),
        models=[{"name": "whisper-tinny", "replicas": 2}],
    ),
    Case(
        "an engine that there is not",
        ('"whisper-tiny"', 'engine "faster-wisper"', "Add it to `engines`", "faster-whisper,"),
        models=[{"name": "whisper-tiny", "engine": "faster-wisper"}],
    ),
    Case(
        "a new engine that says too little",
        ("engines[0]", '"mine"', "needs `stage`"),
        engines=[{"name": "mine", "version": "1"}],
    ),
    Case(
        "an engine without an image",
        ('"mine" says no image',),
        run=["x"],
        engines=[{"name": "mine", "stage": "Chat", "workload": {"args": ["chat"]}}],
        models=[{"name": "x", "engine": "mine"}],
    ),
    Case(
        "an engine of which nobody knows whether it needs a gpu",
        ('"mine" says no `hardware: {gpu: {mode: …}}`',),
        run=["x"],
        engines=[{"name": "mine", "stage": "Chat", "image": {"name": "mine"}}],
        models=[{"name": "x", "engine": "mine"}],
    ),
    Case(
        "one entry twice",
        ("models[1]", "same entry as models[0]", '"whisper-tiny"'),
        models=[
            {"name": "whisper-tiny", "replicas": 1},
            {"repo": "Systran/faster-whisper-tiny", "replicas": 2},
        ],
    ),
    Case(
        "one engine twice",
        ("engines[1]", "same engine as engines[0]"),
        engines=[{"name": "nemo", "version": "1"}, {"name": "nemo", "version": "2"}],
    ),
    Case(
        "a repository of several",
        ("models[0]", "Systran/faster-whisper-base", "faster-whisper-base", "`new: true`"),
        models=[{"repo": "Systran/faster-whisper-base", "replicas": 2}],
    ),
    Case(
        "a new one that is there",
        ("models[0]", '"whisper-tiny" is there already'),
        models=[{"name": "whisper-tiny", "engine": "faster-whisper", "new": True}],
    ),
    Case(
        "a public id that another has",
        ("both answer to", '"fast"'),
        run=["distil-whisper", "mine"],
        catalogue={"gpuImages": True},
        models=[{"name": "mine", "repo": "o/r", "engine": "nemo", "aliases": ["fast"]}],
    ),
    Case(
        "a metadata.name that another has",
        ('both have the metadata.name "whisper-tiny"', "`object`"),
        run=["whisper-tiny", "Whisper/Tiny"],
        models=[{"name": "Whisper/Tiny", "repo": "o/r", "engine": "nemo"}],
    ),
    Case(
        "a name that makes no metadata.name",
        ("models[0]", "40 characters", "`object`"),
        models=[{"repo": "an-organisation/with-a-model-of-a-very-long-name", "engine": "nemo"}],
    ),
    Case(
        "a model that there is not",
        ("catalogue.run[1]", '"whisper-tini"', "faster-whisper-base,"),
        run=["whisper-tiny", "whisper-tini"],
    ),
    Case(
        "weights of several models",
        ("catalogue.run[0]", "Systran/faster-distil", "one must be named"),
        run=["Systran/faster-distil"],
        models=[
            {"name": name, "repo": "Systran/faster-distil", "engine": "faster-whisper", "new": True}
            for name in ("a", "b")
        ],
    ),
    Case(
        "a model that nobody serves",
        ("nvidia/canary-qwen-2.5b", "cannot be served: the NeMo engine", "`enabled: true`"),
        run=["nvidia/canary-qwen-2.5b"],
    ),
    Case(
        "a model that needs a gpu",
        (
            "whisper-large-v3",
            "`catalogue.gpuImages: true`",
            "{name: whisper-large-v3, engine: faster-whisper}",
        ),
        run=["whisper-large-v3"],
    ),
    Case(
        "a gated model without a token",
        (
            "huggingface.co/google/embeddinggemma-300m",
            "`catalogue.hubToken.secretName`",
            "credential=weights",
        ),
        run=["google/embeddinggemma-300m"],
    ),
    Case(
        "a namespace that nobody serves",
        ("catalogue.namespace", '"elsewhere"', "`operator.namespaces`"),
        catalogue={"namespace": "elsewhere"},
    ),
    Case(
        "enabled without an engine",
        ("Qwen/Qwen3-ASR-1.7B-hf", "`engine`"),
        models=[{"name": "Qwen/Qwen3-ASR-1.7B-hf", "enabled": True}],
    ),
    Case("a cache of no kind", ("at '/catalogue/cache/type'",), catalogue={"cache": {"type": "Disk"}}),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
@pytest.mark.req("S2-7")
def test_a_wrong_value_is_refused(case: Case) -> None:
    values: Manifest = {"catalogue": {"run": case.run, **case.catalogue}}
    values |= {"engines": case.engines, "models": case.models, "modelsLocal": case.local}
    with pytest.raises(HelmError) as refused:
        render(values)
    said = re.sub(r"\s+", " ", str(refused.value))
    assert [part for part in case.said if part not in said] == [], said
