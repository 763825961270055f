"""Whatever somebody writes into an object: the operator goes on, and the log says which one it was."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roundhouse_api.model import Manifest
from roundhouse_operator.cache import Cache
from roundhouse_operator.cluster import Change
from roundhouse_operator.core.kinds import CONFIG_MAP, DEPLOYMENT, JOB, POD, Kind
from roundhouse_operator.core.weights.state import read_progress, read_report
from roundhouse_operator.departures import read_in_use
from roundhouse_operator.engines import read_report as read_engine_report
from roundhouse_operator.intake import Intake
from roundhouse_operator.project_weights import project_stored
from tests.unit.operator.worlds import MANAGER, Scene, pod, sent

DEEP = "[" * 5000
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
MARK = st.dictionaries(
    st.sampled_from(["attempt", "purpose", "for", "from", "secret", "claim", "x"]), JSON
).map(json.dumps)
TEXTS = MARK | JSON.map(json.dumps) | st.text() | st.just(DEEP) | st.just("9" * 5000)
LABELS = {"roundhouse.dev/weights": "a", "roundhouse.dev/managed": "true"}


def job(mark: str) -> Manifest:
    metadata = {"name": "weights-a-0123456789ab-1", "labels": LABELS}
    return sent(
        {"kind": "Job", "metadata": {**metadata, "annotations": {"roundhouse.dev/loader": mark}}, "spec": {}}
    )


@settings(max_examples=50)
@given(TEXTS)
def test_no_text_of_ours_that_somebody_else_wrote_is_beyond_reading(text: str) -> None:
    cache = Cache(MANAGER)
    cache.upsert(JOB, job(text))
    record = {"name": "weights-a-0123456789ab", "labels": LABELS}
    cache.upsert(CONFIG_MAP, sent({"kind": "ConfigMap", "metadata": record, "data": {"totalBytes": text}}))
    one = pod(containerStatuses=[{"name": "weights-loader", "state": {"terminated": {"message": text}}}])
    one["metadata"]["labels"]["roundhouse.dev/replica"] = "1"
    one["metadata"]["annotations"] = {"roundhouse.dev/models-generation": text}
    cache.upsert(POD, sent(one))


@settings(max_examples=50)
@given(TEXTS)
@example(DEEP)
@example('{"data":[{"inUse":Infinity}]}')
@example('{"data":[{"inUse":{}}]}')
def test_no_answer_of_a_pod_is_beyond_reading(text: str) -> None:
    body = text.encode(errors="replace")
    for read in (read_report, read_progress, read_engine_report, read_in_use):
        read(body if read is not read_report else text)  # type: ignore[arg-type]


def test_an_attempt_that_is_no_number_is_the_first() -> None:
    for mark in ('{"attempt":"x"}', '{"attempt":null}', '{"attempt":-3}', '{"attempt":{}}'):
        assert project_stored(JOB, job(mark)).attempt == 1  # type: ignore[union-attr]


def test_an_object_that_cannot_be_read_concerns_no_other(caplog: pytest.LogCaptureFixture) -> None:
    scene, counted = Scene(), list[str]()
    intake = Intake(counted.append)

    def take(manifest: Manifest, kind: Kind = POD) -> None:
        intake.take(
            lambda kind, change: scene.cache.upsert(kind, change.manifest), kind, Change("ADDED", manifest)
        )

    broken = sent(pod("bad"))
    broken["status"]["conditions"] = [{"kind": "not a condition"}]
    with caplog.at_level(logging.ERROR):
        take(sent(pod("well")))
        take(broken)
        take(broken)
        take(sent({"kind": "Deployment", "metadata": {"name": "odd"}}), DEPLOYMENT)
    assert counted == ["Pod", "Pod", "Deployment"]
    assert [one.message.split(" cannot")[0] for one in caplog.records] == [
        "Pod speech/bad",
        "Deployment speech/odd",
    ]
    assert scene.cache.counts()["Pod"] == 1, "what can be read is there"


def test_of_an_object_that_can_no_longer_be_read_the_last_that_could_stands() -> None:
    scene, intake = Scene(), Intake()
    scene.put(pod("one", podIP="10.0.0.1", phase="Running"))
    broken = sent(pod("one"))
    broken["status"]["conditions"] = None, 1
    intake.take(
        lambda kind, change: scene.cache.upsert(kind, change.manifest), POD, Change("MODIFIED", broken)
    )
    assert scene.cache.counts()["Pod"] == 1
