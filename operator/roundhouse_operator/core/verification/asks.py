"""Requests for an engine on its own route, and how its answers are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import EngineSpec, RouteName
from roundhouse_operator.core.masking import masked

_PATHS: Final = {
    RouteName.TRANSCRIPTIONS: "/v1/audio/transcriptions",
    RouteName.TRANSLATIONS: "/v1/audio/translations",
    RouteName.EMBEDDINGS: "/v1/embeddings",
    RouteName.CHAT: "/v1/chat/completions",
}
_QUOTE_CHARACTERS: Final = 120


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: a form with a recording, or a JSON body."""

    path: str
    body: Manifest | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    recording: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    content_type: str
    body: bytes

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self) -> Any:  # noqa: ANN401  # a stranger's JSON
        """None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def events(self) -> list[Any]:
        """The data of server-sent events, without the mark of the end."""
        found = []
        for line in self.text.splitlines():
            data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
            if data and data != "[DONE]":
                try:
                    found.append(json.loads(data))
                except ValueError:
                    continue
        return found

    def refusal(self) -> str:
        """Why it is no good answer, in the engine's words as far as they may be shown."""
        return f"the engine answered {self.status}: {quoted(self.text)}"


@dataclass(frozen=True, slots=True)
class Engine:
    """Whom to ask, and under which name it knows the model."""

    spec: EngineSpec
    model: str

    def path(self, route: RouteName) -> str:
        return next((one.path for one in self.spec.api.routes if one.name is route), _PATHS[route])

    def transcription(self, recording: bytes, **fields: str) -> Ask:
        return Ask(
            self.path(RouteName.TRANSCRIPTIONS), fields={"model": self.model, **fields}, recording=recording
        )

    def translation(self, recording: bytes) -> Ask:
        return Ask(self.path(RouteName.TRANSLATIONS), fields={"model": self.model}, recording=recording)

    def embedding(self, text: str) -> Ask:
        body = {"model": self.model, "input": text, "encoding_format": "float"}
        return Ask(self.path(RouteName.EMBEDDINGS), body)

    def chat(self, text: str, **more: Any) -> Ask:  # noqa: ANN401  # JSON
        messages = [{"role": "user", "content": text}]
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 256, **more}
        return Ask(self.path(RouteName.CHAT), body)


def transcript(answer: Answer) -> str | None:
    """The text of a transcription; None where there is none."""
    return _text_at(answer.json(), "text")


def reply(answer: Answer) -> str | None:
    """The text of a chat completion."""
    return _text_at(_first(_member(answer.json(), "choices")), "message", "content")


def vector(answer: Answer) -> object:
    """The first embedding, as it came."""
    return _member(_first(_member(answer.json(), "data")), "embedding")


def tool_calls(answer: Answer) -> object:
    message = _member(_first(_member(answer.json(), "choices")), "message")
    return _member(message, "tool_calls")


def quoted(text: str) -> str:
    line = " ".join(masked(text).split())
    return repr(line if len(line) <= _QUOTE_CHARACTERS else f"{line[:_QUOTE_CHARACTERS]}…")


def _text_at(value: object, *way: str) -> str | None:
    for name in way:
        value = _member(value, name)
    return value if isinstance(value, str) else None


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) and value else None
