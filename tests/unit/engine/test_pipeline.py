"""One transcription's events, and that they survive the way between processes."""

import importlib
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    ModelError,
    ModelSpec,
    Segment,
    Speech,
    SpeechOptions,
    Window,
    Word,
)
from roundhouse_engine.accelerator import Accelerator
from roundhouse_engine.app import _Views
from roundhouse_engine.door import Door, expose
from roundhouse_engine.errors import EngineError, Problem, Refusal, invalid, refused
from roundhouse_engine.events import (
    Ask,
    Done,
    Event,
    Failed,
    Found,
    Loaded,
    LoadFailed,
    Loading,
    Started,
    Stopped,
    ends,
    from_wire,
    to_wire,
)
from roundhouse_engine.fleet import Fleet
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.models_file import Desired, Given
from roundhouse_engine.pipeline import compute, load
from roundhouse_engine.pool import Pool
from roundhouse_engine.settings import read_settings
from roundhouse_engine.shelf import Shelf
from roundhouse_engine.text_events import TextAsk, TextWork
from tests.conformance.engine.text_handlers import Vectors
from tests.support.recordings import wav
from tests.unit.engine.encoding import melody

ASK = Ask("m", SpeechOptions(), 60)
Answer = Callable[[Iterator[Window]], Iterable[Segment]]


class Scripted(Speech):
    """Says what the test put in `answer`."""

    answer: Answer = staticmethod(lambda _: ())

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        match model.name:
            case "missing":
                raise ModelError(f"{model.name!r} has no weights.")
            case "broken":
                raise OSError("no\n  space")
            case "gone":
                raise SystemExit(3)
            case "huge":
                raise MemoryError
            case _:
                pass
        progress(0.5)

    @override
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        return self.answer(windows)


def run(
    answer: Answer, *, data: bytes | None = None, cancellation: Cancellation | None = None
) -> list[Event]:
    handler = Scripted()
    handler.answer = answer
    file = io.BytesIO(wav(melody()) if data is None else data)
    return list(compute(handler, file, ASK, cancellation or Cancellation()))


def test_a_request_starts_finds_and_is_done() -> None:
    started, found, done = run(lambda windows: [Segment(w.start, w.start + w.seconds, "la") for w in windows])
    assert isinstance(started, Started)
    assert started.audio_seconds == pytest.approx(4)
    assert isinstance(found, Found)
    assert found.segment.text == "la"
    assert isinstance(done, Done)
    assert done.compute_seconds > 0


def test_times_stay_inside_the_recording() -> None:
    late = Segment(3.9, 4.4, "la", (Word("la", -0.1, 4.6),))
    events = run(lambda _: [late])
    assert Found(Segment(3.9, 4.0, "la", (Word("la", 0.0, 4.0),))) in events


def test_numbers_and_text_that_json_has_not_become_what_it_has() -> None:
    one: Any = np.float32(1)  # as a library gives it
    seven: Any = np.int64(7)
    odd = Segment(
        one,
        one * 2,
        "ha\ud83d",
        (Word("ha\ud83d", one, one * 2),),
        None,
        (seven,),
        one,
        np.nan,
        -math.inf,
    )
    _, found, _ = run(lambda _: [odd])
    assert found == Found(Segment(1.0, 2.0, "ha?", (Word("ha?", 1.0, 2.0),), None, (7,), temperature=1.0))
    assert json.loads(json.dumps(to_wire(found), allow_nan=False))["segment"]["tokens"] == [7]


def test_a_time_that_is_no_number_is_the_engines_fault() -> None:
    *_, failed = run(lambda _: [Segment(0.0, math.nan, "la")])
    assert isinstance(failed, Failed)
    assert failed.problem.code == "engine_failure"


def test_a_recording_that_cannot_be_read_fails_with_its_problem() -> None:
    (failed,) = run(lambda _: [], data=b"")
    assert isinstance(failed, Failed)
    assert failed.problem.code == "audio_empty"


def test_an_engines_own_fault_is_told_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Iterator[Window]) -> Iterable[Segment]:
        raise ZeroDivisionError("/secret/path")

    *_, failed = run(fail)
    assert isinstance(failed, Failed)
    assert (failed.problem.status, failed.problem.type) == (500, "server_error")
    assert "ZeroDivisionError" in failed.problem.message
    assert "/secret" not in failed.problem.message
    assert "/secret/path" in caplog.text


def test_where_memory_is_short_a_request_may_come_again() -> None:
    def fail(_: Iterator[Window]) -> Iterable[Segment]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    *_, failed = run(fail)
    assert isinstance(failed, Failed)
    assert (failed.problem.status, failed.problem.code) == (503, "out_of_memory")
    assert failed.problem.retry_after_seconds


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Accelerator:
    """Of this test alone."""
    fresh = Accelerator()
    for module in ("pipeline", "app", "pool", "fleet"):
        monkeypatch.setattr(f"roundhouse_engine.{module}.ACCELERATOR", fresh)
    return fresh


LOST = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be reported later."


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError(LOST), True),
        (RuntimeError("CUDA failed with error unspecified launch failure"), True),
        (RuntimeError("CUDA error: invalid configuration argument"), False),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB."), False),
        (invalid(f"`role` must be user or assistant, not {LOST!r}."), False),
        (ValueError(LOST), False),
    ],
    ids=str,
)
async def test_an_engine_whose_gpu_is_lost_is_not_live_and_takes_no_more(
    error: Exception, lost: bool, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Iterator[Window]) -> Iterable[Segment]:
        raise error

    metrics = Metrics()
    pool, fleet = (
        Pool([], metrics),
        Fleet(Given(()), lambda _: pool, metrics, read_settings({"MODELS": "m"}, Scripted)),
    )
    monkeypatch.setattr(Pool, "capacity", 1)
    expose(pool, metrics)
    views = _Views(Scripted, pool, metrics)
    fleet.take(Desired(1))

    async def told() -> set[int]:
        """All statuses of the engine, be its models given or a list, and what its gauge says."""
        answers = [await view(None) for view in (views.live, views.ready)]  # type: ignore[arg-type]
        return {*(answer.status_code for answer in answers), admitted(pool), admitted(fleet)} | {
            200 if metrics.registry.get_sample_value("roundhouse_engine_ready") else 503,
            200 if fleet.ready else 503,
        }

    assert await told() == {200}
    assert isinstance(run(fail)[-1], Failed)
    assert accelerator.lost == lost
    assert await told() == {503 if lost else 200}


def admitted(door: Door) -> int:
    try:
        with door.admit():
            return 200
    except EngineError as error:
        # Routers ask another replica, for no other reason.
        return error.problem.status if error.problem.reason is Refusal.LOADING else 0


def test_no_other_text_of_a_batch_is_tried_where_the_gpu_is_lost(accelerator: Accelerator) -> None:
    class Lost(Vectors):
        calls = 0

        @override
        def embed(self, texts: Any, cancellation: Cancellation) -> Any:
            self.calls += 1
            raise RuntimeError(LOST)

    handler = Lost()
    file = io.BytesIO(json.dumps({"items": ["a", "b", "c"], "bounds": [None] * 3}).encode())
    told = list(compute(handler, file, TextAsk("m", TextWork.EMBED), Cancellation()))
    assert [type(event) for event in told] == [Failed]
    assert (handler.calls, accelerator.lost) == (1, True)


@pytest.mark.parametrize(
    "error", [SystemExit(3), GeneratorExit(), StopIteration(), KeyboardInterrupt()], ids=repr
)
def test_whatever_a_library_raises_fails_its_request(error: BaseException) -> None:
    def leave(_: Iterator[Window]) -> Iterable[Segment]:
        raise error

    def leave_later(windows: Iterator[Window]) -> Iterable[Segment]:
        for window in windows:
            yield Segment(window.start, window.start + window.seconds, "la")
            raise error

    assert [type(event) for event in run(leave)] == [Started, Failed]
    assert [type(event) for event in run(leave_later)] == [Started, Found, Failed]


def test_work_that_nobody_listens_to_any_more_ends_and_has_not_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[bool] = []

    def answer(_: Iterator[Window]) -> Iterable[Segment]:
        try:
            yield Segment(0, 1, "la")
        finally:
            ended.append(True)

    handler = Scripted()
    handler.answer = answer
    work = compute(handler, io.BytesIO(wav(melody())), ASK, Cancellation())
    assert [type(next(work)) for _ in range(2)] == [Started, Found]
    del work
    assert ended
    assert not caplog.records


def test_cancellation_ends_the_work_between_segments() -> None:
    cancellation = Cancellation()

    def answer(_: Iterator[Window]) -> Iterable[Segment]:
        yield Segment(0, 1, "la")
        cancellation.cancel()
        yield Segment(1, 2, "la")
        raise AssertionError("went on after it was cancelled")

    events = run(answer, cancellation=cancellation)
    assert [type(event) for event in events] == [Started, Found, Stopped]


def test_loading_tells_how_far_it_is() -> None:
    told: list[Event] = []
    handlers = load(Scripted, (ModelSpec("a"), ModelSpec("b")), told.append)
    assert list(handlers) == ["a", "b"]
    assert told[:3] == [Loading("a", 0.0), Loading("a", 0.5), Loading("a", 1.0)]
    assert isinstance(told[-1], Loaded)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "'missing' has no weights."),
        ("broken", "'broken' cannot be loaded from '/m': OSError: no space. Its files may be damaged"),
        ("gone", "'gone' cannot be loaded from '/m': SystemExit: 3. Its files"),
        ("huge", "'huge' cannot be loaded from '/m': there is not enough memory. Give the engine more"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why_in_one_line(name: str, message: str) -> None:
    told: list[Event] = []
    assert load(Scripted, (ModelSpec(name, Path("/m")),), told.append) == {}
    assert isinstance(told[-1], LoadFailed)
    assert told[-1].message.startswith(message)


def test_a_model_that_cannot_compute_is_not_loaded() -> None:
    class Cold(Scripted):
        @override
        def warm_up(self) -> None:
            raise ValueError("no kernel for this GPU")

    told: list[Event] = []
    assert load(Cold, (ModelSpec("m", Path("/m")),), told.append) == {}
    assert isinstance(told[-1], LoadFailed)
    first = "'m' was read, and its first work failed: ValueError: no kernel for this GPU."
    assert told[-1].message.startswith(first), "its files are not at fault"


def test_a_gpu_that_gives_no_memory_back_and_a_number_that_is_none_hold_no_load_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Odd(Scripted):
        @override
        def vram_bytes(self) -> Any:
            return "much"

    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    cuda = SimpleNamespace(is_initialized=lambda: True, empty_cache=broken)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    told: list[Event] = []
    assert list(load(Odd, (ModelSpec("m"),), told.append)) == ["m"]
    assert isinstance(told[-1], Loaded)


numbers = st.floats(0, 1e6)
words = st.builds(Word, st.text(), numbers, numbers)
segments = st.builds(
    Segment,
    numbers,
    numbers,
    st.text(),
    st.lists(words, max_size=3).map(tuple),
    st.none() | st.sampled_from(["en", "de"]),
    st.lists(st.integers(0, 60_000), max_size=3).map(tuple),
)
problems = st.sampled_from([refused(reason).problem for reason in Refusal]) | st.builds(
    lambda text: invalid(text, param="file").problem, st.text()
)
KNOWN: Any = {float: numbers, Segment: segments, Problem: problems}


def built(kind: type[Event]) -> st.SearchStrategy[Event]:
    """With all its fields, those that may be left out as well."""
    fields = {name: KNOWN.get(hint, st.from_type(hint)) for name, hint in get_type_hints(kind).items()}
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", get_args(Event))
@settings(max_examples=20)
@given(st.data())
def test_events_survive_the_way_between_processes(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(built(kind))
    told = from_wire(json.loads(json.dumps(to_wire(event))))
    assert (told, repr(told)) == (event, repr(event)), "a name of an enumeration equals its text"
    assert ends(event) == isinstance(event, Done | Failed | Stopped)


def test_what_is_imported_counts_as_no_models_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_for_tests.py").write_text("held = b'x' * (64 << 20)")
    (tmp_path / "broken_for_tests.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)

    class Heavy(Scripted):
        imports = ("heavy_for_tests",)

        @override
        def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
            importlib.import_module("heavy_for_tests")

    class Broken(Scripted):
        imports = ("broken_for_tests",)

    (tmp_path / "exits_for_tests.py").write_text("raise SystemExit(3)")

    class Exits(Scripted):
        imports = ("exits_for_tests",)

    told: list[Event] = []
    assert load(Heavy, (ModelSpec("m"),), told.append, shared=True)
    assert isinstance(told[-1], Loaded)
    assert told[-1].ram_bytes < 32 << 20
    failed: list[Event] = []
    assert not load(Broken, (ModelSpec("m"),), failed.append, shared=True)
    assert failed[-1] == LoadFailed("Broken cannot be imported: ZeroDivisionError: division by zero")
    assert not load(Exits, (ModelSpec("m"),), failed.append, shared=True)
    assert failed[-1] == LoadFailed("Exits cannot be imported: SystemExit: 3")


def test_what_is_put_on_the_shelf_while_a_model_is_loaded_counts_as_none_of_its_memory() -> None:
    class Sharing(Scripted):
        shelf = Shelf[str, bytes](lambda _: b"x" * (64 << 20), len)

        @override
        def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
            with self.shelf.taken("adapter", 0, "other", Cancellation()):
                pass  # as a request of another model does

    told: list[Event] = []
    assert load(Sharing, (ModelSpec("m"),), told.append, shared=True)
    assert isinstance(told[-1], Loaded)
    assert told[-1].ram_bytes < 32 << 20
