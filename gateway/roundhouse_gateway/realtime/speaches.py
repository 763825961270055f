"""How sessions are held with Speaches' `/v1/realtime`, as of its commit 870e1e1 (after 0.9.0-rc.3).

It speaks OpenAI's protocol of 2025 and takes 24 kHz. Its voice detector cannot be switched off, so that where
the client ends utterances by hand its threshold is one that nothing reaches. Where it finds them, one that is
to end at once is ended by silence, because a `commit` within speech ends its session instead. Its times begin
anew with each utterance. It says no texts before an utterance is over.
"""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from roundhouse_api.realtime import Clear, Control, SpeechEnd, SpeechStart, Transcript
from roundhouse_gateway.errors import EngineFailedError
from roundhouse_gateway.realtime.asked import Asked
from roundhouse_gateway.realtime.marks import Mark, Marks
from roundhouse_gateway.realtime.speaker import LAG, Greeting, Said, answered, failed, said

THRESHOLD: Final = 0.9
UNREACHED: Final = 1.0
PAUSE_SECONDS: Final = 0.55
LEAST_SECONDS: Final = 0.1
"""Less than that it does not take as an utterance."""
SILENCE_SECONDS: Final = 3.1
"""Its detector looks at the last three seconds; when those are silent, nobody speaks."""
_SAMPLE_BYTES: Final = 2
_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"


class _Told(msgspec.Struct):
    type: str = ""
    item_id: str = ""
    audio_start_ms: int = 0
    audio_end_ms: int = 0
    transcript: str = ""
    error: Any = None


_DECODER: Final = msgspec.json.Decoder(_Told)


@dataclass(slots=True)
class _Utterance:
    number: int
    start: float
    end: float


class SpeachesSpeaker:
    """One session."""

    rate = 24_000

    def __init__(self, model: str, asked: Asked) -> None:
        self._model = model
        self._asked = asked
        self._pause = PAUSE_SECONDS if asked.silence_seconds is None else asked.silence_seconds
        self._seconds = 0.0
        self._begins = 0.0
        """When what the engine has heard of no utterance yet began, in the client's time."""
        self._unsaid = 0.0
        """Seconds since the client's last wish."""
        self._open: dict[str, _Utterance] = {}
        self._spoken = ""
        self._number = 0
        self._marks = Marks()

    @property
    def full(self) -> bool:
        return self._marks.full

    def query(self) -> dict[str, str]:
        language = {"language": self._asked.language} if self._asked.language else {}
        return {"model": self._model, "intent": "transcription", **language}

    def greet(self, text: str) -> Greeting:
        """It begins, is told how to find utterances, complains of a field that it asks for, and agrees."""
        match _DECODER.decode(text).type:
            case "session.created":
                found = {
                    "type": "server_vad",
                    "threshold": THRESHOLD if self._asked.vad else UNREACHED,
                    "silence_duration_ms": round(self._pause * 1000),
                    "prefix_padding_ms": 0,
                    "create_response": False,
                }
                return Greeting((said("session.update", session={"turn_detection": found}),))
            case "session.updated":
                return Greeting(ready=True)
            case "error":
                return Greeting()
            case _:
                raise EngineFailedError(
                    f"The engine began the session of model '{self._model}' with what is no beginning."
                )

    def audio(self, samples: bytes) -> Iterator[Said]:
        seconds = len(samples) / (_SAMPLE_BYTES * self.rate)
        self._seconds += seconds
        self._unsaid += seconds
        yield said("input_audio_buffer.append", audio=b64encode(samples).decode())

    def control(self, control: Control) -> Iterator[Said]:
        mark = Mark(control)
        self._marks.add(mark)
        if isinstance(control, Clear):
            self._unsaid = 0.0
            yield said("input_audio_buffer.clear")
        elif self._unsaid and self._asked.vad:
            self._unsaid = 0.0
            yield self._silence(SILENCE_SECONDS)
            yield said("session.update", session={})  # its answer tells that the silence was heard
        elif self._unsaid:
            if self._unsaid < LEAST_SECONDS:
                yield self._silence(LEAST_SECONDS)
            self._unsaid = 0.0
            yield said("input_audio_buffer.commit")
        else:
            self._marks.reach(mark, self._open)
            yield from self._settle()

    def told(self, text: str) -> Iterator[Said]:
        heard = _DECODER.decode(text)
        match heard.type:
            case "input_audio_buffer.speech_started":
                yield from self._started(heard)
            case "input_audio_buffer.speech_stopped":
                yield from self._stopped(heard)
            case "input_audio_buffer.committed" if not self._asked.vad:
                self._committed(heard)
            case "input_audio_buffer.cleared":
                yield from self._cleared()
            case "session.updated":
                self._reach()
                yield from self._settle()
            case kind if kind == f"{_TRANSCRIPTION}.completed":
                yield from self._completed(heard)
            case "error" | "conversation.item.input_audio_transcription.failed":
                yield from failed(_words(heard.error))
            case _:
                pass

    def _silence(self, seconds: float) -> str:
        samples = bytes(round(seconds * self.rate) * _SAMPLE_BYTES)
        return said("input_audio_buffer.append", audio=b64encode(samples).decode())

    def _started(self, heard: _Told) -> Iterator[Said]:
        self._number += 1
        at = min(self._begins + heard.audio_start_ms / 1000, self._seconds)
        self._open[heard.item_id] = _Utterance(self._number, at, at)
        self._spoken = heard.item_id
        yield SpeechStart(type="vad.speech_start", lag_ms=LAG, utterance=self._number, at=at)

    def _stopped(self, heard: _Told) -> Iterator[Said]:
        utterance = self._open.get(heard.item_id)
        if utterance is None:
            return  # it was cleared meanwhile
        self._spoken = ""
        utterance.end = max(min(self._begins + heard.audio_end_ms / 1000, self._seconds), utterance.start)
        self._begins = utterance.end
        yield SpeechEnd(type="vad.speech_end", lag_ms=LAG, utterance=utterance.number, at=utterance.end)

    def _committed(self, heard: _Told) -> None:
        """By hand: the oldest wish that has none gets this item."""
        self._number += 1
        self._open[heard.item_id] = _Utterance(self._number, self._begins, self._seconds)
        self._begins = self._seconds
        self._reach()

    def _cleared(self) -> Iterator[Said]:
        self._begins = self._seconds
        self._open.pop(self._spoken, None)
        self._marks.forget(self._spoken)
        self._spoken = ""
        self._reach()
        yield from self._settle()

    def _completed(self, heard: _Told) -> Iterator[Said]:
        found = self._open.pop(heard.item_id, None)
        if found is not None:
            yield Transcript(
                type="transcript.final",
                lag_ms=LAG,
                utterance=found.number,
                text=heard.transcript.strip(),
                start=found.start,
                end=found.end,
                language=self._asked.language,
            )
        self._marks.forget(heard.item_id)
        yield from self._settle()

    def _reach(self) -> None:
        """The engine has come to the oldest wish that it had not come to."""
        mark = self._marks.next()
        if mark is not None:
            self._marks.reach(mark, self._open)

    def _settle(self) -> Iterator[Said]:
        for control in self._marks.answered():
            yield from answered(control, self._seconds)


def _words(error: object) -> str:
    """Of an error, which is an object mostly."""
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or "The engine failed on the session.")
