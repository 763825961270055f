"""What an OpenAI client is told: the server's events of a transcription session, built from what engines say.

Engines may take back what an utterance seems to say, and deltas cannot be taken back: so an item has one
delta, with its whole text, and together they are always the transcript.
"""

import time
from collections.abc import Iterator
from secrets import token_hex
from typing import Any, Final

from roundhouse_api.realtime import Cleared, Event, Flushed, SpeechEnd, SpeechStart, Transcript
from roundhouse_gateway.errors import GatewayError
from roundhouse_gateway.realtime.openai_config import Config

_DELTA: Final = "conversation.item.input_audio_transcription.delta"
_COMPLETED: Final = "conversation.item.input_audio_transcription.completed"

ServerEvent = dict[str, Any]


def event(kind: str, **members: object) -> ServerEvent:
    return {"type": kind, "event_id": f"event_{token_hex(10)}", **members}


def session_event(kind: str, session_id: str, config: Config, lasts_seconds: float) -> ServerEvent:
    session = {"id": session_id, **config.shown(), "expires_at": int(time.time() + lasts_seconds)}
    return event(kind, session=session)


def error_event(error: GatewayError, event_id: str | None = None) -> ServerEvent:
    """`event_id` is that of the client's event at fault."""
    told = {"type": error.type, "code": error.code, "message": error.message, "param": error.param}
    return event("error", error={**told, "event_id": event_id})


class Items:
    """The items of a conversation, and the one that is spoken. `by_hand`: the client commits."""

    def __init__(self) -> None:
        self.by_hand = False
        self.offset_ms = 0
        """Where the present session of an engine begins in the client's audio."""
        self._previous: str | None = None
        self._spoken: dict[int, tuple[str, float]] = {}
        self._seconds: dict[str, float] = {}
        self._said: list[str] = []

    def committed(self, seconds: float) -> tuple[str, list[ServerEvent]]:
        """A new item, of what the client has committed."""
        item = _item_id()
        self._seconds[item] = seconds
        return item, list(self._committed(item))

    def told(self, heard: Event) -> Iterator[ServerEvent]:
        match heard:
            case SpeechStart() if not self.by_hand:
                item = _item_id()
                self._spoken[heard.utterance] = (item, heard.at)
                yield event(
                    "input_audio_buffer.speech_started", audio_start_ms=self._ms(heard.at), item_id=item
                )
            case SpeechEnd() if not self.by_hand:
                item, start = self._spoken[heard.utterance]
                self._seconds[item] = heard.at - start
                yield event(
                    "input_audio_buffer.speech_stopped", audio_end_ms=self._ms(heard.at), item_id=item
                )
                yield from self._committed(item)
            case Transcript() if self.by_hand:
                self._said.append(heard.text)
            case Transcript():
                item, _ = self._spoken.pop(heard.utterance)
                yield from self._completed(item, heard.text)
            case Flushed(id=item) if self.by_hand and item:
                text, self._said = " ".join(filter(None, self._said)), []
                yield from self._completed(item, text)
            case Cleared():
                self.clear()  # told in the order of the audio: nothing of what comes after is here yet
            case _:
                pass

    def clear(self) -> None:
        self._spoken.clear()
        self._said.clear()

    def _ms(self, seconds: float) -> int:
        return self.offset_ms + round(seconds * 1000)

    def _committed(self, item: str) -> Iterator[ServerEvent]:
        before, self._previous = self._previous, item
        yield event("input_audio_buffer.committed", previous_item_id=before, item_id=item)
        content = [{"type": "input_audio"}]
        shown = {"id": item, "object": "realtime.item", "type": "message", "role": "user", "content": content}
        for kind, status in (
            ("conversation.item.added", "in_progress"),
            ("conversation.item.done", "completed"),
        ):
            yield event(kind, previous_item_id=before, item={**shown, "status": status})

    def _completed(self, item: str, text: str) -> Iterator[ServerEvent]:
        place = {"item_id": item, "content_index": 0}
        if text:
            yield event(_DELTA, **place, delta=text)
        usage = {"type": "duration", "seconds": round(self._seconds.pop(item, 0.0), 3)}
        yield event(_COMPLETED, **place, transcript=text, usage=usage)


def _item_id() -> str:
    return f"item_{token_hex(10)}"
