"""The main job, as people meet it: apply two resources, wait for Ready, read the words of a recording."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from openai import BadRequestError, InternalServerError, OpenAI

from tests.cluster.local import Cluster
from tests.e2e.release import Release
from tests.support.recordings import GO_FORWARD_WORDS, WEATHER_WORDS, go_forward, spoken
from tests.support.waiting import wait_until


def openai_client(release: Release) -> OpenAI:
    return OpenAI(base_url=f"{release.url}/v1", api_key="none needed", max_retries=0)


def test_the_demo_itself(cluster: Cluster, pocketsphinx: str) -> None:
    """What `make demo` runs, on the cluster that is there already."""
    environment = {**os.environ, "ROUNDHOUSE_CLUSTER": str(cluster.number)}
    command = [sys.executable, "-m", "tests.demo"]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert told.index("This will, on this machine:") < told.index("heard:")
    assert [line.split('"')[1] for line in told.splitlines() if "heard:" in line] == [
        f"\033[1m{GO_FORWARD_WORDS}\033[0m",
        f"\033[1m{WEATHER_WORDS}\033[0m",
    ]
    assert f"modelvariant.roundhouse.dev/{pocketsphinx} condition met" in told


@pytest.mark.req("S0-1", "S0-9", "S0-21", "S1-1", "S1-8")
def test_curl_gets_the_words_of_a_recording(release: Release, pocketsphinx: str, tmp_path: Path) -> None:
    recording = tmp_path / "goforward.wav"
    recording.write_bytes(go_forward())
    answer = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--fail", f"{release.url}/v1/audio/transcriptions"),
            *("-F", f"file=@{recording}", "-F", f"model={pocketsphinx}"),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert json.loads(answer)["text"] == GO_FORWARD_WORDS


@pytest.mark.req("S1-2")
def test_openai_client_gets_words_and_times(release: Release, pocketsphinx: str) -> None:
    with openai_client(release) as client:
        answer = client.audio.transcriptions.with_raw_response.create(
            model="auto",
            file=("weather.wav", io.BytesIO(spoken(WEATHER_WORDS))),
            response_format="verbose_json",
            timestamp_granularities=["word"],
        )
    transcript = answer.parse()
    assert answer.headers["x-roundhouse-model"] == pocketsphinx
    assert transcript.text == WEATHER_WORDS
    assert [word.word for word in transcript.words or []] == WEATHER_WORDS.split()
    ends = [word.end for word in transcript.words or []]
    assert ends == sorted(ends)
    assert 0 < ends[-1] <= float(transcript.duration) + 0.01


def test_text_format_is_plain(release: Release, pocketsphinx: str) -> None:
    with openai_client(release) as client:
        text = client.audio.transcriptions.create(
            model=pocketsphinx, file=("a.wav", io.BytesIO(go_forward())), response_format="text"
        )
    assert str(text).strip() == GO_FORWARD_WORDS


@pytest.mark.req("S0-12", "S0-13", "S1-3", "S1-10", "S1-12", "S1-13", "S1-20")
def test_lists_name_what_runs(release: Release, pocketsphinx: str) -> None:
    with openai_client(release) as client:
        wait_until(
            lambda: [model.id for model in client.models.list()] == [pocketsphinx],
            seconds=60,
            what="those of other tests are off the list",
        )
        assert client.models.retrieve(pocketsphinx).id == pocketsphinx
    engines = release.get_json("/v1/engines")
    assert engines["total"] == 1
    assert (engines["engines"][0]["id"], engines["engines"][0]["status"]) == (pocketsphinx, "running")
    assert [runtime["name"] for runtime in engines["runtimes"]] == ["pocketsphinx"]


def test_kubectl_shows_a_status_page(release: Release, pocketsphinx: str) -> None:
    page = release.in_namespace("get", "roundhouse")
    lines = [line.split() for line in page.splitlines() if line]
    variant = next(line for line in lines if line[0].endswith(f"/{pocketsphinx}"))
    assert variant[1:3] == ["True", "Serving"]


@pytest.mark.parametrize(
    ("upload", "says"),
    [
        pytest.param(lambda: b"", "empty", id="empty"),
        pytest.param(lambda: b"this is a letter, not a recording" * 50, "audio", id="not audio"),
        pytest.param(lambda: go_forward()[:20_000], "cut off", id="cut off"),
    ],
)
def test_uploads_that_are_no_recording_say_so(
    release: Release, pocketsphinx: str, upload: Callable[[], bytes], says: str
) -> None:
    content = upload()
    with openai_client(release) as client, pytest.raises(BadRequestError, match=says) as caught:
        client.audio.transcriptions.create(model=pocketsphinx, file=("a.wav", io.BytesIO(content)))
    assert caught.value.type == "invalid_request_error"


@pytest.mark.req("S1-14", "S1-17")
def test_scaled_to_nothing_and_back(release: Release, pocketsphinx: str) -> None:
    release.in_namespace("scale", f"modelvariant/{pocketsphinx}", "--replicas=0")
    release.wait_for_condition(f"modelvariant/{pocketsphinx}", "Ready", "False", "ScaledToZero")
    with openai_client(release) as client:
        wait_until(lambda: not list(client.models.list()), seconds=60, what="the model is off the list")
        with pytest.raises(
            InternalServerError, match=f"Engine '{pocketsphinx}' is not currently running"
        ) as caught:
            client.audio.transcriptions.create(model=pocketsphinx, file=("a.wav", io.BytesIO(go_forward())))
    assert caught.value.status_code == 503
    wait_until(
        lambda: release.get_json(f"/v1/models/{pocketsphinx}")["status"] == "available",
        seconds=60,
        what="it is told to be available",
    )
    release.in_namespace("scale", f"modelvariant/{pocketsphinx}", "--replicas=1")
    release.wait_for_condition(f"modelvariant/{pocketsphinx}", "Ready", "True", "Serving")
    release.answers_again(pocketsphinx)


def test_a_killed_pod_is_replaced(release: Release, pocketsphinx: str) -> None:
    selector = f"roundhouse.dev/variant={pocketsphinx}"
    release.in_namespace("delete", "pod", "--selector", selector, "--grace-period=0", "--force")
    release.wait_for_condition(f"modelvariant/{pocketsphinx}", "Available", "True")
    release.answers_again(pocketsphinx)
