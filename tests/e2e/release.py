"""An installed chart as the end-to-end tests see it: kubectl on one side, the gateway's URL on the other."""

import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from openai import APIError, OpenAI

from tests.cluster.local.api_server import ApiServer
from tests.images.definitions import IMAGES, project_version
from tests.support.recordings import GO_FORWARD_WORDS, go_forward
from tests.support.waiting import wait_until

Kubectl = Callable[..., str]

MODEL = "pocketsphinx-en-us"
"""The example's variant, which all tests of a session share."""


@dataclass(frozen=True, slots=True)
class Release:
    """One `helm install`: where it is and how it is reached. `url` is the gateway's address on loopback.

    `values` are the chart's, which an upgrade has to give again. `load` puts images of this repository into
    the cluster, by their names.
    """

    kubectl: Kubectl
    api: ApiServer
    namespace: str
    url: str
    values: dict[str, str]
    load: Callable[..., None]

    def apply(self, manifest: str) -> None:
        """The images of this repository that it names are in the cluster first."""
        self.load(*(image.name for image in IMAGES if f"/{image.name}:{project_version()}" in manifest))
        self.kubectl("apply", "--namespace", self.namespace, "-f", "-", input=manifest)

    def delete(self, *resources: str) -> None:
        self.in_namespace("delete", "--ignore-not-found", "--wait", *resources)

    def clear(self) -> None:
        """Deletes the variants of a test, whatever they are called by now."""
        mine = f"--field-selector=metadata.name!={MODEL}"
        self.in_namespace("delete", "modelvariants.roundhouse.dev", "--wait", mine)

    def get(self, resource: str) -> dict[str, Any]:
        """One resource, named as `kind/name`; AssertionError where there is none."""
        what, _, name = resource.partition("/")
        found = self.api.get(what, name, self.namespace)
        assert found is not None, f"there is no {resource}"
        return found

    def staying(self, selector: str) -> list[dict[str, Any]]:
        """The pods that are not about to end."""
        return [one for one in self.list("pods", selector) if "deletionTimestamp" not in one["metadata"]]

    def list(self, what: str, selector: str) -> list[dict[str, Any]]:
        """Of one kind or, with commas between, of several."""
        return self.api.list(what, self.namespace, selector)

    def condition(self, resource: str, kind: str) -> dict[str, Any]:
        """One condition of a resource as it was applied last; empty if there is none of that type yet."""
        whole = self.get(resource)
        status = whole.get("status", {})
        if status.get("observedGeneration") != whole["metadata"]["generation"]:
            return {}
        return next((condition for condition in status["conditions"] if condition["type"] == kind), {})

    def wait_for_condition(
        self,
        resource: str,
        kind: str,
        status: str,
        reason: str | None = None,
        *,
        seconds: float = 120,
    ) -> str:
        """Wait until the condition is so, and return its message."""

        def holds() -> dict[str, Any]:
            seen = self.condition(resource, kind)
            assert seen.get("status") == status, seen
            assert reason is None or seen.get("reason") == reason, seen
            return seen

        wanted = f"{resource} has {kind}={status}" + (f"/{reason}" if reason else "")
        return str(wait_until(holds, seconds=seconds, what=wanted)["message"])

    def get_json(self, path: str) -> dict[str, Any]:
        """What the gateway answers; an error that it answers, or no answer, is an AssertionError."""
        try:
            return self._get_json(path)
        except OSError as error:
            raise AssertionError(f"{path}: {error}") from error

    def _get_json(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:  # noqa: S310 - a loopback URL of ours
            body: dict[str, Any] = json.load(answer)
        return body

    def in_namespace(self, *arguments: str) -> str:
        """Run kubectl in the release's namespace."""
        return self.kubectl(*arguments, "--namespace", self.namespace)

    def answers_again(self, model: str) -> None:
        """Wait until `model` hears the right words, whatever it answers until then."""

        def heard() -> bool:
            return self.transcribe(model) == GO_FORWARD_WORDS

        wait_until(heard, seconds=60, what=f"{model} hears {GO_FORWARD_WORDS!r}")

    def transcribe(self, model: str) -> str:
        """The words that `model` hears in the person's recording; an API error is an AssertionError."""
        with OpenAI(base_url=f"{self.url}/v1", api_key="none needed", max_retries=0) as client:
            try:
                return client.audio.transcriptions.create(model=model, file=("a.wav", go_forward())).text
            except APIError as error:
                raise AssertionError(str(error)) from error
