"""How sessions are held with vLLM's `/v1/realtime`, as of its commit 055e47c (speech_to_text/realtime).

One generation runs at a time: a first `commit` starts it, audio of 16 kHz is appended while its text comes in
deltas, a `commit` with `final` ends it and is answered by `transcription.done`. It throws away audio that
comes between the two, so that is kept here meanwhile. It has no voice detector: where a client wants
utterances found, one ends where the text pauses. Voxtral tells of each 80 ms, with an empty delta where
nobody speaks; of models that do not, the audio sent since the last word counts. It has no `clear` either: a
generation is ended, and what it says till then not passed on.
"""

from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from roundhouse_api.realtime import Clear, Control, Partial, SpeechEnd, SpeechStart, Transcript
from roundhouse_gateway.errors import EngineFailedError
from roundhouse_gateway.realtime.asked import Asked
from roundhouse_gateway.realtime.speaker import LAG, Greeting, Said, answered, failed, said

PAUSE_SECONDS: Final = 1.0
FRAME_SECONDS: Final = 0.08
"""What a delta of Voxtral stands for."""
_SAMPLE_BYTES: Final = 2
KEPT_BYTES: Final = 5 * 16_000 * _SAMPLE_BYTES
"""How much may wait until a generation has ended: five seconds of audio."""
_CONTROL_BYTES: Final = 4096
"""What a control counts as."""


class _Told(msgspec.Struct):
    type: str = ""
    delta: str = ""
    text: str = ""
    error: Any = None


_DECODER: Final = msgspec.json.Decoder(_Told)


class VllmSpeaker:
    """One session."""

    rate = 16_000

    def __init__(self, model: str, asked: Asked) -> None:
        self._model = model
        self._asked = asked
        self._pause = PAUSE_SECONDS if asked.silence_seconds is None else asked.silence_seconds
        self._generates = False
        self._ends_for: Control | None = None
        self._kept: deque[bytes | Control] = deque()
        self._kept_bytes = 0
        self._whole = ""
        self._text = ""
        self._seconds = 0.0
        self._utterance = 0
        self._start: float | None = None
        self._last_word = 0.0
        self._empty = 0
        self._tells_frames = False

    @property
    def full(self) -> bool:
        return self._kept_bytes >= KEPT_BYTES

    def query(self) -> dict[str, str]:
        return {}

    def greet(self, text: str) -> Greeting:
        """It begins, and is told the model, to which it says nothing where it knows it."""
        heard = _DECODER.decode(text)
        if heard.type != "session.created":
            said_so = f": {heard.error}" if heard.error else "."
            raise EngineFailedError(
                f"The engine began the session of model '{self._model}' with an error{said_so}"
            )
        return Greeting((said("session.update", model=self._model),), ready=True)

    def audio(self, samples: bytes) -> Iterator[Said]:
        self._seconds += len(samples) / (_SAMPLE_BYTES * self.rate)
        if self._ends_for is not None:
            self._keep(samples)
            return
        yield from self._append(samples)
        yield from self._look_for_a_pause()

    def control(self, control: Control) -> Iterator[Said]:
        if self._ends_for is not None:
            self._keep(control)
        elif self._generates:
            self._ends_for = control
            yield said("input_audio_buffer.commit", final=True)
        else:
            yield from answered(control, self._seconds)

    def told(self, text: str) -> Iterator[Said]:
        heard = _DECODER.decode(text)
        match heard.type:
            case "transcription.delta":
                yield from self._hear(heard.delta)
                yield from self._look_for_a_pause()
            case "transcription.done":  # of its whole text the deltas are the beginning
                if heard.text.startswith(self._whole) and heard.text != self._whole:
                    yield from self._hear(heard.text[len(self._whole) :])
                yield from self._done()
            case "error":
                yield from failed(str(heard.error))
            case _:
                pass

    def _keep(self, given: bytes | Control) -> None:
        self._kept.append(given)
        self._kept_bytes += _weight(given)

    def _append(self, samples: bytes) -> Iterator[Said]:
        if not self._generates:
            self._generates, self._whole = True, ""
            yield said("input_audio_buffer.commit", final=False)
        yield said("input_audio_buffer.append", audio=b64encode(samples).decode())

    def _hear(self, delta: str) -> Iterator[Said]:
        """Deltas are empty where nobody speaks."""
        self._whole += delta
        if isinstance(self._ends_for, Clear):
            return
        if not delta:
            self._empty += 1
            self._tells_frames = True
        if delta.strip():
            self._last_word, self._empty = self._seconds, 0
            if self._start is None:
                self._utterance += 1
                self._start = self._seconds
                if self._asked.vad:
                    yield SpeechStart(
                        type="vad.speech_start", lag_ms=LAG, utterance=self._utterance, at=self._seconds
                    )
        if self._start is None:
            return
        self._text += delta
        if self._asked.interim_results and delta.strip():
            yield Partial(type="transcript.partial", **self._uttered())

    def _look_for_a_pause(self) -> Iterator[Said]:
        if not self._asked.vad or self._start is None:
            return
        sent = self._seconds - self._last_word
        if (self._empty * FRAME_SECONDS if self._tells_frames else sent) >= self._pause:
            yield from self._end_utterance()

    def _end_utterance(self) -> Iterator[Said]:
        if self._start is None:
            return
        if self._asked.vad:
            yield SpeechEnd(type="vad.speech_end", lag_ms=LAG, utterance=self._utterance, at=self._last_word)
        yield Transcript(type="transcript.final", language=self._asked.language, **self._uttered())
        self._start, self._text = None, ""

    def _uttered(self) -> dict[str, Any]:
        times = {"start": self._start, "end": self._last_word}
        return {"lag_ms": LAG, "utterance": self._utterance, "text": self._text.strip(), **times}

    def _done(self) -> Iterator[Said]:
        """The generation is over, because it was to end, or by itself; what came meanwhile is next."""
        control, self._ends_for = self._ends_for, None
        self._generates = False
        if isinstance(control, Clear):
            self._start, self._text = None, ""
        yield from self._end_utterance()
        if control is not None:
            yield from answered(control, self._seconds)
        while self._kept and self._ends_for is None:
            kept = self._kept.popleft()
            self._kept_bytes -= _weight(kept)
            yield from self._append(kept) if isinstance(kept, bytes) else self.control(kept)


def _weight(kept: bytes | Control) -> int:
    return len(kept) if isinstance(kept, bytes) else _CONTROL_BYTES
