"""One session from its stream of frames to what is heard, told in events.

It finds the utterances as recordings are cut, feeds each to the handler while it is spoken, and has the
handler say at its end what it was. The same code runs in a thread of the server and in a child process.
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, Final

from roundhouse_engine.authoring import heard
from roundhouse_engine.events import Cleared, Event, Flushed, Guessed, Heard, SpeechBegan, SpeechOver, Uttered
from roundhouse_engine.formats import Segment, joined
from roundhouse_engine.handler import Cancellation, Cancelled
from roundhouse_engine.presentable import plain_text
from roundhouse_engine.realtime_speech import RealtimeSpeech, StreamOptions, Utterance
from roundhouse_engine.samples import Inlet, sample_bytes
from roundhouse_engine.speech import SpeechOptions, Window
from roundhouse_engine.stream_frames import Frame, Order, unpacked
from roundhouse_engine.vad import FRAME_SECONDS, Cutter

# What has come is fed when there is no more of it for now, and in parts where it comes in long pieces: asking
# a decoder what it heard costs, and what waits for a fourth frame would wait for the next piece.
_FEED_FRAMES: Final = 3
_MOST_FRAMES: Final = 8

_EARLY_FRAMES: Final = 10
"""So much before the first that may be speech is fed as well; as much silence says that it was none."""
_DOUBT_FRAMES: Final = 100
"""After so long in which it was neither, it is begun anew: a decoder keeps all of an utterance."""


def listen(
    handler: RealtimeSpeech,
    file: BinaryIO,
    options: SpeechOptions,
    stream: StreamOptions,
    cancellation: Cancellation,
) -> Iterator[Event]:
    """Events until the client has said that no more comes; raises `Cancelled` where it just left."""
    session = _Session(handler, options, stream, cancellation)
    try:
        for frame in unpacked(file):
            cancellation.check()
            began = time.monotonic()
            try:
                yield from session.take(frame)
            except Exception:
                yield Heard(session.seconds, time.monotonic() - began)
                raise
            yield Heard(session.seconds, time.monotonic() - began)
            if frame.order is Order.END:
                return
    finally:
        session.drop()  # the handler serves the next session too, which is to find nothing of this one
    raise Cancelled


class _Session:
    """`seconds`: how much of the client's audio is worked through."""

    def __init__(
        self,
        handler: RealtimeSpeech,
        options: SpeechOptions,
        stream: StreamOptions,
        cancellation: Cancellation,
    ) -> None:
        self._handler = handler
        self._options = options
        self._stream = stream
        self._cancellation = cancellation
        self._inlet = Inlet(stream.encoding, stream.sample_rate, handler.sample_rate)
        self._byte_rate = stream.sample_rate * sample_bytes(stream.encoding)
        self._detector = handler.detector() if stream.vad else None
        self._cutter = Cutter(
            handler.sample_rate,
            handler.window_seconds,
            pause_seconds=stream.silence_seconds,
            by_hand=not stream.vad,
        )
        self._rest = b""
        self._unfed: list[bytes] = []
        self._frames = 0
        self._utterance: Utterance | None = None
        self._early = handler.early and stream.vad and stream.interim_results
        self._expected: Utterance | None = None
        self._expected_since = 0
        self._recent: deque[tuple[bytes, bool]] = deque(maxlen=_EARLY_FRAMES)
        self._number = 0
        self._guess = ""
        self.seconds = 0.0

    def take(self, frame: Frame) -> Iterator[Event]:
        """One frame, and what comes of it."""
        match frame.order:
            case Order.AUDIO:
                yield from self.hear(frame.data)
            case Order.FLUSH:
                yield from self.flush()
                yield Flushed(frame.data.decode())
            case Order.CLEAR:
                self.clear()
                yield Cleared(frame.data.decode())
            case Order.END:
                yield from self.end()

    def hear(self, data: bytes) -> Iterator[Event]:
        yield from self._take(self._inlet.take(data))
        self.seconds += len(data) / self._byte_rate

    def flush(self) -> Iterator[Event]:
        for window in self._cutter.flush():
            yield from self._finish(window)

    def clear(self) -> None:
        self._cutter.clear()
        self._recent.clear()
        self.drop()

    def end(self) -> Iterator[Event]:
        yield from self._take(self._inlet.flush())
        if self._rest and self._cutter.is_open:
            yield from self._push(self._rest)
        yield from self.flush()

    def _take(self, samples: bytes) -> Iterator[Event]:
        data, size = self._rest + samples, self._cutter.frame_bytes
        whole = len(data) - len(data) % size
        self._rest = data[whole:]
        for start in range(0, whole, size):
            self._cancellation.check()
            yield from self._push(data[start : start + size])
        yield from self._feed(_FEED_FRAMES)

    def _push(self, frame: bytes) -> Iterator[Event]:
        whole = len(frame) == self._cutter.frame_bytes
        speech = whole and (self._detector is None or self._detector(frame))
        was_open = self._cutter.is_open
        windows = list(self._cutter.push(frame, speech=speech))
        self._frames += 1
        for window in windows:
            yield from self._finish(window)
        self._recent.append((frame, speech))
        if not self._cutter.is_open:
            if self._early:
                self._expect(frame, speech=speech)
            return
        self._unfed.append(frame)
        if not was_open or windows:
            yield from self._begin()
        yield from self._feed(_MOST_FRAMES)

    def _expect(self, frame: bytes, *, speech: bool) -> None:
        """What may turn out to be speech is heard at once, for its decoder to be there when it does."""
        doubtful = self._frames - self._expected_since >= _DOUBT_FRAMES
        if doubtful or not any(heard for _, heard in self._recent):
            self._forget()
        if self._expected is not None:
            self._unfed.append(frame)
        elif speech:
            self._expected = self._handler.utterance(self._options, interim=True)
            self._expected_since = self._frames
            self._unfed, self._guess = [recent for recent, _ in self._recent], ""

    def _begin(self) -> Iterator[Event]:
        """Of what the cutter has opened, with all that it holds by now."""
        self._number += 1
        yield SpeechBegan(self._number, self._cutter.start)
        self._utterance, self._expected = self._expected, None
        if self._utterance is None:
            self._utterance = self._handler.utterance(self._options, interim=self._stream.interim_results)
            self._unfed, self._guess = [self._cutter.pending], ""
        elif self._guess:
            yield self._guessed()

    def _feed(self, frames: int) -> Iterator[Event]:
        """What has come since it was fed last, where that is so much."""
        utterance = self._utterance or self._expected
        if utterance is None or sum(map(len, self._unfed)) < frames * self._cutter.frame_bytes:
            return
        guess = utterance.feed(b"".join(self._unfed), self._cancellation)
        self._unfed = []
        text = plain_text(guess).strip() if guess is not None else self._guess
        new, self._guess = text != self._guess, text
        if new and self._utterance is not None and self._stream.interim_results:
            yield self._guessed()

    def _guessed(self) -> Guessed:
        return Guessed(self._number, self._guess, self._cutter.start, self._frames * FRAME_SECONDS)

    def _finish(self, window: Window) -> Iterator[Event]:
        if self._utterance is None:  # too short to have been begun, and speech all the same
            self._forget()
            self._number += 1
            yield SpeechBegan(self._number, window.start)
            self._utterance = self._handler.utterance(self._options, interim=False)
        self._recent.clear()  # what is said next begins with nothing of this
        end = window.start + window.seconds
        yield SpeechOver(self._number, end)
        segments = []
        found = self._utterance.finish(window, self._cancellation)
        for segment in heard(self._utterance, "finish", found, end):
            self._cancellation.check()
            segments.append(segment)
        self._utterance = None
        yield Uttered(self._number, _whole(segments, window, self._options.language))

    def drop(self) -> None:
        """What is spoken, or was not heard to its end."""
        utterance, self._utterance = self._utterance, None
        if utterance is not None:
            utterance.drop()
        self._forget()

    def _forget(self) -> None:
        """What was expected to be speech, and is none."""
        expected, self._expected = self._expected, None
        if expected is not None:
            expected.drop()
            self._unfed = []


def _whole(segments: list[Segment], window: Window, language: str | None) -> Segment:
    """An utterance is told as one, however the handler divides it."""
    text, found = "", language
    for segment in segments:
        found = found or segment.language
        text = joined(text, segment.text, found or "")
    if not segments:
        return Segment(window.start, window.start + window.seconds, "", language=language)
    words = tuple(word for segment in segments for word in segment.words)
    return Segment(segments[0].start, segments[-1].end, text, words, found)
