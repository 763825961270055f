"""How sessions are held with OpenAI's `/v1/realtime` as it is since its general availability (client 2.x).

A session of transcription is asked for in the query, and told its model before anything is heard. It takes 24
kHz. What a client ends by hand is committed, also within speech; where there is nothing to commit it says so
in an error that names the event, which is an answer like any other. Its items are transcribed each by itself,
so a later one may be done first. Its times count from the session's beginning.
"""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import msgspec

from roundhouse_api.realtime import Clear, Control, Partial, SpeechEnd, SpeechStart, Transcript
from roundhouse_gateway.errors import EngineFailedError
from roundhouse_gateway.realtime.asked import Asked
from roundhouse_gateway.realtime.marks import Mark, Marks
from roundhouse_gateway.realtime.speaker import LAG, Greeting, Said, answered, failed, said

LEAST_SECONDS: Final = 0.1
"""Less than that it does not commit."""
_SAMPLE_BYTES: Final = 2
_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"
_NOTHING_THERE: Final = "Error committing input audio buffer"


class _Error(msgspec.Struct):
    message: str | None = None
    code: str | None = None
    event_id: str | None = None


class _Told(msgspec.Struct):
    """Servers that are compatible say `null` for what is not there, and times in parts of milliseconds."""

    type: str = ""
    item: str | None = msgspec.field(default=None, name="item_id")
    audio_start_ms: float | None = None
    audio_end_ms: float | None = None
    delta: str | None = None
    transcribed: str | None = msgspec.field(default=None, name="transcript")
    error: _Error | None = None

    @property
    def item_id(self) -> str:
        return self.item or ""

    @property
    def transcript(self) -> str:
        return self.transcribed or ""


_DECODER: Final = msgspec.json.Decoder(_Told)


@dataclass(slots=True)
class _Item:
    """A piece of audio that is transcribed, or will be. `spoken`: the engine found it itself."""

    number: int
    start: float
    end: float
    spoken: bool
    ended: bool = False
    text: str = ""


class OpenAISpeaker:
    """One session."""

    rate = 24_000

    def __init__(self, model: str, asked: Asked) -> None:
        self._model = model
        self._asked = asked
        self._seconds = 0.0
        self._begins = 0.0
        """When what is not committed yet began."""
        self._unsaid = 0.0
        """Seconds since the client's last wish."""
        self._padded = 0.0
        """Seconds that the engine has heard and the client has not sent."""
        self._items: dict[str, _Item] = {}
        self._numbers = count(1)
        self._ids = count(1)
        self._marks = Marks()

    @property
    def full(self) -> bool:
        return self._marks.full

    def query(self) -> dict[str, str]:
        return {"intent": "transcription"}

    def greet(self, text: str) -> Greeting:
        """It begins, is told what to do, and agrees or says why not."""
        heard = _DECODER.decode(text)
        match heard.type:
            case "session.created":
                return Greeting((said("session.update", session=self._session()),))
            case "session.updated":
                return Greeting(ready=True)
            case "error":
                raise EngineFailedError(f"The engine takes no session so: {_words(heard.error)}")
            case _:
                return Greeting()

    def _session(self) -> dict[str, Any]:
        asked = self._asked
        silence = (
            {}
            if asked.silence_seconds is None
            else {"silence_duration_ms": round(asked.silence_seconds * 1000)}
        )
        heard: dict[str, Any] = {
            "format": {"type": "audio/pcm", "rate": self.rate},
            "transcription": {"model": self._model}
            | ({"language": asked.language} if asked.language else {}),
            "turn_detection": {"type": "server_vad", **silence} if asked.vad else None,
        }
        return {"type": "transcription", "audio": {"input": heard}}

    def audio(self, samples: bytes) -> Iterator[Said]:
        seconds = len(samples) / (_SAMPLE_BYTES * self.rate)
        self._seconds += seconds
        self._unsaid += seconds
        yield said("input_audio_buffer.append", audio=b64encode(samples).decode())

    def control(self, control: Control) -> Iterator[Said]:
        mark = Mark(control, f"rh_{next(self._ids)}", self._seconds)
        self._marks.add(mark)
        unsaid, self._unsaid = self._unsaid, 0.0
        if isinstance(control, Clear):
            yield said("input_audio_buffer.clear", event_id=mark.id)
        elif unsaid:
            if unsaid < LEAST_SECONDS and not self._asked.vad:
                self._padded += LEAST_SECONDS
                silence = bytes(round(LEAST_SECONDS * self.rate) * _SAMPLE_BYTES)
                yield said("input_audio_buffer.append", audio=b64encode(silence).decode())
            yield said("input_audio_buffer.commit", event_id=mark.id)
        else:
            self._reach(mark)
            yield from self._settle()

    def told(self, text: str) -> Iterator[Said]:
        heard = _DECODER.decode(text)
        match heard.type.removeprefix(f"{_TRANSCRIPTION}."):
            case "input_audio_buffer.speech_started":
                item = self._item(heard.item_id, self._time(heard.audio_start_ms), spoken=True)
                yield SpeechStart(type="vad.speech_start", lag_ms=LAG, utterance=item.number, at=item.start)
            case "input_audio_buffer.speech_stopped":
                yield from self._end(self._items.get(heard.item_id), self._time(heard.audio_end_ms))
            case "input_audio_buffer.committed":
                yield from self._committed(heard.item_id)
            case "input_audio_buffer.cleared":
                yield from self._cleared()
            case "delta":
                yield from self._hear(heard)
            case "completed":
                yield from self._completed(heard)
            case "error":
                yield from self._on_error(heard.error or _Error())
            case "failed":
                yield from failed(_words(heard.error))
            case _:
                pass

    def _time(self, ms: float | None) -> float:
        return max(0.0, min((ms or 0) / 1000 - self._padded, self._seconds))

    def _item(self, item_id: str, start: float, *, spoken: bool) -> _Item:
        made = self._items[item_id] = _Item(next(self._numbers), start, self._seconds, spoken)
        return made

    def _end(self, item: _Item | None, at: float) -> Iterator[Said]:
        """Where the engine found it, it says so once: it may be committed before it stops."""
        if item is None or item.ended:
            return
        item.ended, item.end = True, max(at, item.start)
        self._begins = item.end
        if item.spoken:
            yield SpeechEnd(type="vad.speech_end", lag_ms=LAG, utterance=item.number, at=item.end)

    def _committed(self, item_id: str) -> Iterator[Said]:
        """By the engine, once speech has stopped, else because the client wished it."""
        item = self._items.get(item_id)
        if item is not None and item.ended:
            return
        mark = self._marks.next()
        at = mark.at if mark is not None else self._seconds
        yield from self._end(item or self._item(item_id, self._begins, spoken=False), at)
        if mark is not None:
            self._reach(mark)

    def _cleared(self) -> Iterator[Said]:
        mark = self._marks.next()
        self._begins = mark.at if mark is not None else self._seconds
        for gone in [item_id for item_id, item in self._items.items() if not item.ended]:
            self._forget(gone)
        if mark is not None:
            self._reach(mark)
        yield from self._settle()

    def _hear(self, heard: _Told) -> Iterator[Said]:
        item = self._items.get(heard.item_id)
        if item is None or not heard.delta:
            return
        item.text += heard.delta
        if self._asked.interim_results and item.text.strip():
            yield Partial(type="transcript.partial", **_uttered(item, item.text))

    def _completed(self, heard: _Told) -> Iterator[Said]:
        item = self._items.get(heard.item_id)
        if item is not None and (item.spoken or not self._asked.vad or heard.transcript.strip()):
            yield Transcript(
                type="transcript.final",
                language=self._asked.language,
                **_uttered(item, heard.transcript),
            )
        self._forget(heard.item_id)
        yield from self._settle()

    def _on_error(self, error: _Error) -> Iterator[Said]:
        empty = error.code == "input_audio_buffer_commit_empty" or _words(error).startswith(_NOTHING_THERE)
        mark = self._marks.next(error.event_id)  # which it need not say
        if mark is None or not empty:
            yield from failed(_words(error))
            return
        self._reach(mark)
        yield from self._settle()

    def _forget(self, item_id: str) -> None:
        self._items.pop(item_id, None)
        self._marks.forget(item_id)

    def _reach(self, mark: Mark) -> None:
        self._marks.reach(mark, self._items)

    def _settle(self) -> Iterator[Said]:
        for control in self._marks.answered():
            yield from answered(control, self._seconds)


def _uttered(item: _Item, text: str) -> dict[str, Any]:
    times = {"start": item.start, "end": max(item.end, item.start)}
    return {"lag_ms": LAG, "utterance": item.number, "text": text.strip(), **times}


def _words(error: _Error | None) -> str:
    return (error and error.message) or "The engine failed on the session."
