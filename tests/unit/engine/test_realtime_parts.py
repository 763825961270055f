"""What a session is made of: lag, encodings and rates, the order of frames, where utterances end."""

import asyncio
import io
import json
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import numpy as np
import pytest
from starlette.types import Message
from typing_extensions import override

from roundhouse_engine.errors import EngineError, Refusal, refused
from roundhouse_engine.events import Cleared, Event, Flushed, Heard
from roundhouse_engine.lag import END_AFTER_SECONDS, Lag, Verdict
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.orders import MOST_UNANSWERED, read_order
from roundhouse_engine.pool import Pool
from roundhouse_engine.realtime import Realtime
from roundhouse_engine.realtime_speech import RealtimeSpeech
from roundhouse_engine.samples import Inlet
from roundhouse_engine.session import (
    AHEAD_BYTES,
    GOING_AWAY,
    IDLE,
    NORMAL,
    Bounds,
    Client,
    Runner,
    Session,
)
from roundhouse_engine.settings import read_settings
from roundhouse_engine.stream_ask import read_stream_ask
from roundhouse_engine.stream_frames import Frame, Order, packed, unpacked
from roundhouse_engine.vad import Cutter
from tests.support.waiting import eventually

RATE = 16_000


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_who_speaks_in_real_time_lags_by_what_is_not_processed() -> None:
    clock = Clock()
    lag = Lag(clock)
    for _ in range(40):
        lag.receive(0.1)
        clock.now += 0.1
    lag.process(1.0)
    assert lag.seconds == pytest.approx(3.0)
    assert [lag.judge(), lag.judge()] == [Verdict.WARN, Verdict.FINE], "it is told once"
    lag.process(4.0)
    assert (round(lag.seconds, 6), round(lag.backlog, 6), lag.judge()) == (0, 0, Verdict.FINE)


def test_what_is_sent_faster_than_it_plays_is_no_lag() -> None:
    clock = Clock()
    lag = Lag(clock)
    lag.receive(60.0)
    assert (lag.seconds, lag.backlog) == (0, 60)
    clock.now += 30
    lag.process(30.0)
    assert lag.seconds == 0
    clock.now += 10
    assert lag.seconds == pytest.approx(10)


def test_a_session_ends_when_the_lag_stays_large() -> None:
    clock = Clock()
    lag = Lag(clock)
    lag.receive(6.0)
    clock.now += 6
    assert lag.judge() is Verdict.WARN
    clock.now += END_AFTER_SECONDS / 2
    lag.process(3.0)
    assert lag.judge() is Verdict.FINE, "it has caught up in time"
    lag.receive(6.0)
    clock.now += 6
    assert lag.judge() is not Verdict.END
    clock.now += END_AFTER_SECONDS
    assert lag.judge() is Verdict.END


@pytest.mark.parametrize(("works_for", "ends"), [(0.5, False), (0.9, False), (1.5, True)])
def test_to_hear_an_utterance_at_its_end_may_take_as_long_as_it_was(works_for: float, *, ends: bool) -> None:
    """`works_for`: so many seconds for each of speech, which has a pause each half minute."""
    clock = Clock()
    lag, began = Lag(clock), clock.now
    free, done, said = 0.0, 0.0, 30.0
    verdicts = set()
    while (now := clock.now - began) < 200:
        if lag.backlog < AHEAD_BYTES / 2 / RATE:
            lag.receive(min(now + 0.1 - lag.received, 0.5))
        while now >= free and done + 0.1 <= lag.received:
            done += 0.1
            lag.process(done)
            if done >= said:
                lag.excuse(30.0)
                free, said = now + works_for * 30, said + 30
        verdicts.add(lag.judge())
        clock.now += 0.05
    assert (Verdict.END in verdicts) is ends


def test_frames_keep_their_order_and_an_end_that_never_comes_is_seen() -> None:
    frames = [Frame(Order.AUDIO, b"ab"), Frame(Order.FLUSH, b"id"), Frame(Order.CLEAR), Frame(Order.END)]
    whole = b"".join(map(packed, frames))
    assert list(unpacked(io.BytesIO(whole + b"more"))) == frames
    for cut in range(len(whole)):
        assert Frame(Order.END) not in list(unpacked(io.BytesIO(whole[:cut])))


@pytest.mark.parametrize(
    ("encoding", "codes", "samples"),
    [
        ("mulaw", b"\x00\x80\xff\x7f\xf0\x0f", [-32124, 32124, 0, 0, 120, -16764]),
        ("alaw", b"\x2a\xaa\xd5\x55", [-32256, 32256, 8, -8]),
        (
            "pcm_f32le",
            np.array([0, 1, -1, 2, np.nan, 0.5], "<f4").tobytes(),
            [0, 32767, -32767, 32767, 0, 16384],
        ),
        ("pcm_s16le", b"\x01\x00\xff\xff", [1, -1]),
    ],
)
def test_encodings(encoding: str, codes: bytes, samples: list[int]) -> None:
    whole = Inlet(encoding, RATE, RATE).take(codes)
    assert np.frombuffer(whole, "<i2").tolist() == samples
    bits = Inlet(encoding, RATE, RATE)
    assert b"".join(bits.take(codes[at : at + 1]) for at in range(len(codes))) == whole


def test_rates_are_converted_without_loss_of_time() -> None:
    tone = (np.sin(np.arange(48_000) * 2 * np.pi * 440 / 48_000) * 8000).astype("<i2")
    inlet = Inlet("pcm_s16le", 48_000, RATE)
    data = tone.tobytes()
    pieces = [inlet.take(data[at : at + 999]) for at in range(0, len(data), 999)]
    found = np.frombuffer(b"".join([*pieces, inlet.flush()]), "<i2")
    assert len(found) == pytest.approx(RATE, abs=40)
    assert np.abs(np.fft.rfft(found)).argmax() == pytest.approx(440 * len(found) / RATE, abs=1)


def ends(cutter: Cutter, frames: Iterator[bool]) -> list[float]:
    """Where the windows end, in frames of 30 ms."""
    frame = bytes(cutter.frame_bytes)
    return [
        round((window.start + window.seconds) / 0.03)
        for speech in frames
        for window in cutter.push(frame, speech=speech)
    ]


def test_an_utterance_ends_after_the_pause_that_was_asked_for() -> None:
    said = [True] * 20 + [False] * 100
    early = Cutter(RATE, 30.0, pause_seconds=0.15)
    assert len(ends(early, iter(said[:25]))) == 1
    late = Cutter(RATE, 30.0, pause_seconds=2.0)
    assert ends(late, iter(said[:80])) == []
    assert len(ends(late, iter([False] * 10))) == 1


def test_by_hand_no_pause_ends_an_utterance_and_clear_forgets_it() -> None:
    cutter = Cutter(RATE, 30.0, by_hand=True)
    assert ends(cutter, iter([False] * 200)) == []
    assert cutter.is_open
    (window,) = cutter.flush()
    assert (window.start, round(window.seconds, 2)) == (0.0, 6.0)
    ends(cutter, iter([True] * 50))
    cutter.clear()
    assert (cutter.is_open, list(cutter.flush())) == (False, [])


@pytest.mark.parametrize(
    "text", ["", "no", "[1]", '{"type": []}', '{"type": "end", "id": ' + '"x' * 200 + '"}']
)
def test_orders_that_are_none(text: str) -> None:
    with pytest.raises(EngineError):
        read_order(text)


def test_an_order_of_a_megabyte_is_refused_unread() -> None:
    with pytest.raises(EngineError):
        read_order(json.dumps({"type": "clear", "pad": [0] * 10_000}))
    longest = json.dumps({"type": "clear", "id": "\U0001f600" * 128})
    assert read_order(longest).order is Order.CLEAR


class Engine(RealtimeSpeech):
    languages = frozenset({"en"})

    @override
    def load(self, *_: Any) -> None: ...

    @override
    def transcribe(self, *_: Any) -> Any: ...

    @override
    def utterance(self, *_: Any, **__: Any) -> Any: ...


def test_a_session_is_asked_for_by_its_query() -> None:
    ask = read_stream_ask(
        {"model": ["m"], "silence_ms": ["250"], "vad": ["0"], "prompt": ["x"]}, Engine, ["m"]
    )
    assert (ask.model, ask.options.language, ask.options.prompt) == ("m", "en", "x")
    assert (ask.stream.silence_seconds, ask.stream.vad, ask.stream.sample_rate) == (0.25, False, 16_000)
    for wrong in ({"word_timestamps": ["true"]}, {"vad": ["true", "true"]}, {"silence_ms": ["-1"]}):
        with pytest.raises(EngineError):
            read_stream_ask({"model": ["m"], **wrong}, Engine, ["m"])


async def test_minutes_are_read_ahead_and_who_leaves_is_noticed_all_the_same() -> None:
    """The runner takes nothing: the client's pings are reached where its audio is read."""
    ask = read_stream_ask({"model": ["m"]}, Engine, ["m"])
    taken, gone = 0, asyncio.Event()

    async def receive() -> Message:
        nonlocal taken
        taken += 64 << 10
        return {"type": "websocket.receive", "bytes": bytes(64 << 10)}

    async def send(_: Message) -> None: ...

    async def nothing() -> AsyncGenerator[Event, None]:
        await asyncio.Event().wait()
        yield Heard(0.0)

    async def stay() -> None:
        await asyncio.Event().wait()

    async def has_taken(size: int) -> None:
        async def so_much() -> bool:
            return taken >= size

        await eventually(so_much, seconds=60, what=f"{size} bytes are read, of which {taken} are")

    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_unix_connection(sock=ours)
    session = Session(ask, Bounds(600.0, 1.0), Lag(time.monotonic), Client(receive, send, gone))
    with theirs:
        running = asyncio.create_task(session.run(Runner(writer, nothing(), stay), lambda _: None))
        await has_taken(AHEAD_BYTES)
        for _ in range(1000):
            await asyncio.sleep(0)
        before = taken
        assert before < AHEAD_BYTES + (2 << 20), "what is read ahead is bounded"
        read = 0
        while read < 1 << 20:
            read += len(theirs.recv(1 << 16))
            await asyncio.sleep(0)
        await has_taken(before + (1 << 19))
        gone.set()
        assert (await asyncio.wait_for(running, 60)).code == 0


@pytest.mark.parametrize("order", ["end", "flush", "clear"])
async def test_a_client_that_waits_for_an_answer_is_not_idle(order: str) -> None:
    """However long it takes: it has nothing more to say before."""
    ask, asked, answer = read_stream_ask({"model": ["m"]}, Engine, ["m"]), 0, asyncio.Event()
    told: list[Message] = []

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        if asked > 1:
            if asked > 3:  # it was waited for as long as a client may be idle, twice
                answer.set()
            await asyncio.Event().wait()
        return {"type": "websocket.receive", "text": json.dumps({"type": order})}

    async def send(message: Message) -> None:
        told.append(message)

    async def events() -> AsyncGenerator[Event, None]:
        await answer.wait()
        if order != "end":
            yield Flushed("") if order == "flush" else Cleared("")
            await asyncio.Event().wait()

    async def stay() -> None:
        await asyncio.Event().wait()

    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_unix_connection(sock=ours)
    session = Session(ask, Bounds(0.02, 1.0), Lag(time.monotonic), Client(receive, send, asyncio.Event()))
    with theirs:
        running = session.run(Runner(writer, events(), stay), lambda _: None)
        ending = await asyncio.wait_for(running, 60)
    assert ending.code == (NORMAL if order == "end" else IDLE), "once it is answered it is idle"
    assert [json.loads(each["text"])["type"] for each in told[:-1]] == {
        "end": ["session.end"],
        "flush": ["flushed", "session.end"],
        "clear": ["cleared", "session.end"],
    }[order]


async def test_a_client_with_many_unanswered_orders_is_not_read_from() -> None:
    """It may never read: its answers would fill the memory."""
    ask, read, answers = read_stream_ask({"model": ["m"]}, Engine, ["m"]), 0, asyncio.Semaphore(0)
    many = asyncio.Event()

    async def receive() -> Message:
        nonlocal read
        read += 1
        if read > MOST_UNANSWERED:
            many.set()
        if read > MOST_UNANSWERED + 5:
            return {"type": "websocket.disconnect"}
        return {"type": "websocket.receive", "text": '{"type": "flush"}'}

    async def send(message: Message) -> None: ...

    async def events() -> AsyncGenerator[Event, None]:
        while True:
            await answers.acquire()
            yield Flushed("")

    async def stay() -> None:
        await asyncio.Event().wait()

    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_unix_connection(sock=ours)
    session = Session(ask, Bounds(600, 600), Lag(time.monotonic), Client(receive, send, asyncio.Event()))
    with theirs:
        running = asyncio.create_task(session.run(Runner(writer, events(), stay), lambda _: None))
        await asyncio.wait_for(many.wait(), 60)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert read == MOST_UNANSWERED + 1
        for _ in range(5):
            answers.release()
        assert (await asyncio.wait_for(running, 60)).code == 0
    assert read == MOST_UNANSWERED + 6


async def test_a_session_that_its_model_leaves_is_told_once() -> None:
    """Its own deadline and the model's come at the same moment."""
    ask, told, leaving = read_stream_ask({"model": ["m"]}, Engine, ["m"]), list[Message](), asyncio.Event()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("it says nothing")

    async def send(message: Message) -> None:
        told.append(message)
        leaving.set()

    async def events() -> AsyncGenerator[Event, None]:
        await leaving.wait()
        raise refused(Refusal.DRAINING)
        yield

    async def leaves() -> None: ...

    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_unix_connection(sock=ours)
    session = Session(ask, Bounds(600, 600), Lag(time.monotonic), Client(receive, send, asyncio.Event()))
    with theirs:
        running = session.run(Runner(writer, events(), leaves), lambda _: None)
        assert (await asyncio.wait_for(running, 60)).code == GOING_AWAY
    assert [json.loads(each["text"])["type"] for each in told[:-1]] == ["session.ending", "session.end"]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_an_engine_that_leaves_loads_no_model_again_for_a_session(when: str) -> None:
    class Away(Pool):
        waiting_for_it = False

        @override
        def away(self, model: str) -> bool:
            return True

        @override
        async def once_loaded(self, model: str, take: Any) -> Any:
            assert when == "meanwhile"
            self.draining = self.waiting_for_it = True
            try:
                await asyncio.Event().wait()
            finally:
                self.waiting_for_it = False

    said: list[Message] = []

    connecting = [True]

    async def receive() -> Message:
        if not connecting:
            await asyncio.Event().wait()
        connecting.clear()
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        said.append(message)

    metrics = Metrics()
    away = Away([], metrics, ["m"])
    away.draining = when == "before"
    route = Realtime(
        Engine, read_settings({"MODELS": "m", "ROUNDHOUSE_SESSIONS": "0"}, Engine), away, metrics
    )
    asked = {"type": "websocket", "query_string": b"model=m", "headers": []}
    await asyncio.wait_for(route(asked, receive, send), 60)
    assert not away.waiting_for_it
    assert said[0]["status"] == 503
    assert (b"x-roundhouse-reason", b"draining") in said[0]["headers"]
