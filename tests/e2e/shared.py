"""An engine that several variants share, made from the scripted engine, and clients that keep asking."""

import http.client
import json
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.conformance.engine.running import form
from tests.e2e.release import Release
from tests.images.definitions import project_version
from tests.support.recordings import wav
from tests.support.waiting import wait_until

SCRIPT = Path(__file__).parents[1] / "support" / "scripted_engine.py"
SOUND = wav(bytes(32_000))
PAUSE_SECONDS = 0.05
ENOUGH = 10
"""Answers to each client that keeps asking, so that something was seen."""


def script_manifest(name: str) -> dict[str, Any]:
    """The scripted engine as a ConfigMap: any image that holds the SDK can run it."""
    data = {"engine.py": SCRIPT.read_text()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def engine_manifest(name: str, serving: dict[str, Any], **spec: Any) -> dict[str, Any]:
    container = {"name": "engine", "volumeMounts": [{"name": "script", "mountPath": "/script"}]}
    volume = {"name": "script", "configMap": {"name": name}}
    return {
        "apiVersion": "roundhouse.dev/v1alpha1",
        "kind": "Engine",
        "metadata": {"name": name},
        "spec": {
            "stage": "Transcribe",
            "interfaces": ["Batch"],
            "version": "1.0.0",
            "workload": {
                "image": f"localhost/roundhouse/pocketsphinx:{project_version()}",
                "command": ["python", "/script/engine.py"],
                "podTemplate": {"spec": {"containers": [container], "volumes": [volume]}},
            },
            "serving": serving,
            "hardware": {
                "gpu": {"mode": "None"},
                "resources": {"requests": {"cpu": "20m", "memory": "128Mi"}},
            },
            **spec,
        },
    }


def variant_manifest(name: str, engine: str, script: str = "", **spec: Any) -> dict[str, Any]:
    """`script` is what the scripted engine reads from its model's name."""
    least = {
        "engineRef": {"name": engine},
        "engineModelName": f"{name}{script}",
        "source": {"type": "Builtin"},
    }
    return {
        "apiVersion": "roundhouse.dev/v1alpha1",
        "kind": "ModelVariant",
        "metadata": {"name": name},
        "spec": {**least, **spec},
    }


def address(pod: dict[str, Any]) -> str:
    return f"http://{pod['status']['podIP']}:8000"


def models_of(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """What the pod itself says of its models; AssertionError where it does not answer."""
    try:
        with urllib.request.urlopen(f"{address(pod)}/v1/models", timeout=60) as answer:  # noqa: S310
            models: list[dict[str, Any]] = json.load(answer)["data"]
    except OSError as error:
        raise AssertionError(f"{pod['metadata']['name']} does not answer: {error}") from error
    return models


@dataclass
class SharedEngine:
    """One engine and its variants in a release's namespace."""

    release: Release
    name: str

    def apply(self, *manifests: dict[str, Any]) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.release.apply(json.dumps(listed))

    def ready(self, *variants: str, seconds: float = 120) -> None:
        for variant in variants:
            self.release.wait_for_condition(
                f"modelvariant/{variant}", "Ready", "True", "Serving", seconds=seconds
            )

    def pods(self) -> dict[str, set[str]]:
        """Variants whose requests each pod gets, by the pod's name; without pods that end."""
        selector = f"roundhouse.dev/engine={self.name}"
        return {
            pod["metadata"]["name"]: {
                label.partition("/")[2] for label in pod["metadata"]["labels"] if label.startswith("serves.")
            }
            for pod in self.release.staying(selector)
        }

    def in_use(self) -> int:
        """Requests that its pods are at work on, as they tell it themselves."""
        pods = self.release.list("pods", f"roundhouse.dev/engine={self.name}")
        return sum(model["inUse"] for pod in pods for model in models_of(pod))

    def until_placed(self, *wanted: set[str], seconds: float = 120) -> None:
        """Until the pods serve exactly these variants, in whatever order."""

        def placed() -> bool:
            assert sorted(map(sorted, self.pods().values())) == sorted(map(sorted, wanted)), self.pods()
            return True

        wait_until(placed, seconds=seconds, what=f"pods serve {wanted}")

    def ask(self, variant: str, prompt: str = "", timeout: float = 60) -> tuple[int, str]:
        """Status and text of one transcription through the gateway."""
        address = urlsplit(self.release.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout)
        try:
            body, headers = form(SOUND, model=variant, prompt=prompt)
            connection.request("POST", "/v1/audio/transcriptions", body, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        return answer.status, json.loads(text)["text"].strip() if answer.status == 200 else text

    def answers(self, *variants: str) -> None:
        """Until the gateway has heard of each."""
        for variant in variants:
            wait_until(
                lambda: self.ask(variant) == (200, variant),  # noqa: B023 - called at once
                seconds=60,
                what=f"{variant} answers",
            )

    @contextmanager
    def asked_all_the_time(self, *variants: str) -> Iterator[Counter[str]]:
        """Clients that ask one after the other until the end; then all answers must be right."""
        counted: Counter[str] = Counter()
        wrong: list[str] = []
        stop = threading.Event()

        def keep_asking(variant: str) -> None:
            while not stop.is_set():
                try:
                    answer = self.ask(variant, "wait 0.1")
                except OSError as error:
                    answer = (0, repr(error))
                counted[variant] += 1
                if answer != (200, variant):
                    wrong.append(f"{time.strftime('%X')} {variant}: {answer}")
                time.sleep(PAUSE_SECONDS)

        clients = [threading.Thread(target=keep_asking, args=(variant,)) for variant in variants]
        for client in clients:
            client.start()
        try:
            yield counted
            wait_until(
                lambda: wrong or all(counted[variant] > ENOUGH for variant in variants),
                seconds=60,
                what="each was asked often enough",
            )
        finally:
            stop.set()
            for client in clients:
                client.join()
        assert not wrong, wrong[:5]
