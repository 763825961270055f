"""What workers share: exact, also when one of them dies in the middle of it."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context

import pytest
from prometheus_client.parser import text_string_to_metric_families

from roundhouse_gateway import metrics as metrics_module
from roundhouse_gateway.departed import KEPT_SECONDS, Departed
from roundhouse_gateway.limits import WINDOW_SECONDS
from roundhouse_gateway.load import Counts
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.workers.arena import RING
from roundhouse_gateway.workers.book import SharedBook
from roundhouse_gateway.workers.key_table import KeyTable
from roundhouse_gateway.workers.series import SummedNumbers
from roundhouse_gateway.workers.shared import Shared, State
from roundhouse_gateway.workers.tokens import Kept
from tests.unit.gateway.house import IDLE, PLACE, House
from tests.unit.gateway.resources import READY
from tests.unit.gateway.waiting import turns

WHISPER = ("models", "whisper")


@pytest.fixture
def shared() -> Shared:
    return Shared.make(2, arena_bytes=1 << 20, slots=256)


def in_process(do: Callable[[], object]) -> int:
    """In one that was forked, as workers are; how it ended."""
    process = get_context("fork").Process(target=do)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def table(shared: Shared, own: int, now: float = 1_000_000.0) -> KeyTable:
    return KeyTable(shared.keys, shared.workers, own, shared.keys_lock, lambda: now)


async def test_a_minute_is_counted_over_all_workers(shared: Shared) -> None:
    one, other = table(shared, 0), table(shared, 1)
    taken = [(await each.take("k", 5))[0] for _ in range(4) for each in (one, other)]
    assert sum(taken) == 5
    assert (await other.standing("k", 5)).remaining == 0
    later = table(shared, 0, 1_000_000.0 + WINDOW_SECONDS)
    assert (await later.take("k", 5))[1].remaining == 4
    assert (await table(shared, 1, 1_000_000.0 - WINDOW_SECONDS).take("k", 5))[1].remaining == 3, (
        "a clock that is behind does not begin the minute anew"
    )


async def test_places_are_counted_over_all_workers_and_given_back_with_one(shared: Shared) -> None:
    one, other = table(shared, 0), table(shared, 1)
    assert [await each.begin("k", 3) for each in (one, other, one, other)] == [True, True, True, False]
    shared.posts[0].ended(cpu_seconds=1.5)
    assert shared.forget(0)
    assert [await other.begin("k", 3) for _ in range(3)] == [True, True, False]
    other.end("k")
    assert await one.begin("k", 3)
    assert shared.posts[0].restarts == 1


async def test_workers_that_take_at_the_same_time_take_no_more_than_there_is(shared: Shared) -> None:
    """A lost count would let more through: two processes race for ten thousand."""

    def take() -> None:
        limits = table(shared, 1)
        asyncio.run(_take_all(limits))

    process = get_context("fork").Process(target=take)
    process.start()
    await _take_all(table(shared, 0))
    process.join(60)
    assert process.exitcode == 0
    assert (await table(shared, 0).standing("k", 10**6)).remaining == 10**6 - 20_000


async def _take_all(limits: KeyTable) -> None:
    for _ in range(10_000):
        assert (await limits.take("k", 10**6))[0]


def test_who_dies_with_the_lock_leaves_it_to_the_others(shared: Shared) -> None:
    def die() -> None:
        with shared.lock, shared.keys_lock:
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_process(die) == -signal.SIGKILL
    with shared.lock, shared.keys_lock, shared.lock:
        pass


async def test_keys_that_rest_make_room_and_those_that_run_do_not() -> None:
    small = Shared.make(2, arena_bytes=1 << 20, slots=4)
    one = table(small, 0)
    for number in range(4):
        assert (await one.take(f"k{number}", 9))[0]
    assert await one.begin("k0", 9)
    later = table(small, 0, 1_000_000.0 + 2 * WINDOW_SECONDS)
    for number in range(3):
        assert (await later.take(f"new{number}", 9))[0]
    assert not await later.begin("k0", 1), "its place was not given away"


class Sums:
    """Metrics of two workers."""

    def __init__(self, shared: Shared) -> None:
        self.ages = [1.0, 7.0]
        self.of = [self._metrics(shared, own) for own in range(2)]

    def _metrics(self, shared: Shared, own: int) -> Metrics:
        numbers = SummedNumbers(shared.arenas, own, shared.processes(own))
        made = Metrics(lambda: self.ages[own], lambda: 3, numbers)
        numbers.publish()
        return made

    async def read(self, own: int) -> dict[str, float]:
        text = b"".join([piece async for piece in self.of[own].exposition()]).decode()
        found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {
            f"{one.name.removeprefix('roundhouse_gateway_')}{sorted(one.labels.values())}": one.value
            for one in found
        }


async def test_counters_and_histograms_are_sums_whichever_worker_is_asked(shared: Shared) -> None:
    sums = Sums(shared)
    for metrics, times in zip(sums.of, (2, 3), strict=True):
        for _ in range(times):
            metrics.requests("/v1/x", "200", 'm"', "").inc()
            metrics.duration("/v1/x", "m").observe(0.02)
        metrics.in_flight("/v1/x").inc()
    sums.of[1].requests("/v1/x", "404", "m", "").inc()
    for own in range(2):
        found = await sums.read(own)
        assert found["requests_total['', '/v1/x', '200', 'm\"']"] == 5
        assert found["requests_total['', '/v1/x', '404', 'm']"] == 1
        assert found["request_duration_seconds_bucket['/v1/x', '0.025', 'm']"] == 5
        assert found["request_duration_seconds_bucket['/v1/x', '0.01', 'm']"] == 0
        assert found["request_duration_seconds_count['/v1/x', 'm']"] == 5
        assert found["request_duration_seconds_sum['/v1/x', 'm']"] == pytest.approx(0.1)
        assert found["in_flight_requests['/v1/x']"] == 2
        assert (found["snapshot_age_seconds[]"], found["models[]"]) == (7, 3)
        assert found["process_cpu_seconds_total[]"] > 0


async def test_who_follows_a_worker_goes_on_with_its_counters_and_has_nothing_in_hand(shared: Shared) -> None:
    sums = Sums(shared)
    sums.of[0].requests("/v1/x", "200", "m", "").inc(4)
    sums.of[0].in_flight("/v1/x").inc(2)
    before = await sums.read(1)
    shared.posts[0].ended(cpu_seconds=100.0)
    shared.forget(0)
    found = await sums.read(1)
    assert found["requests_total['', '/v1/x', '200', 'm']"] == 4
    assert found["in_flight_requests['/v1/x']"] == 0
    assert found["process_cpu_seconds_total[]"] >= before["process_cpu_seconds_total[]"] + 100
    sums.of[0] = sums._metrics(shared, 0)
    sums.of[0].requests("/v1/x", "200", "m", "").inc()
    assert (await sums.read(1))["requests_total['', '/v1/x', '200', 'm']"] == 5


async def test_what_a_worker_has_let_go_is_told_until_all_have_and_never_goes_back(shared: Shared) -> None:
    sums, now = Sums(shared), [0.0]
    for metrics in sums.of:
        metrics.tokens("goes", "input", "").inc(2)
        metrics.tokens("stays", "input", "").inc(2)
    departed = [Departed(metrics, lambda: now[0]) for metrics in sums.of]
    told = "tokens_total['', 'goes', 'input']"
    shared.forget(0)
    sums.of[0] = sums._metrics(shared, 0)  # which has not begun any series of it
    departed[0] = Departed(sums.of[0], lambda: now[0])
    for own, left in ((0, 4), (1, None)):
        assert departed[own].due(["stays"]) == []
        now[0] += KEPT_SECONDS
        sums.of[own].let_go(departed[own].due(["stays"]))
        for asked in range(2):
            found = await sums.read(asked)
            assert found.get(told) == left
            assert found["tokens_total['', 'input', 'stays']"] == 4
    sums.of[1].tokens("goes", "input", "").inc()
    assert (await sums.read(0))[told] == 5


async def test_a_key_has_one_label_in_all_workers(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "MOST_KEYS", 2)
    one, other = Sums(shared).of
    assert [one.key("a", "Ann"), other.key("b", "Bob")] == ["Ann", "Bob"]
    assert [
        each.key(*key) for key in (("c", "Cat"), ("b", "Bob"), ("a", "Ann")) for each in (one, other)
    ] == [
        *("other", "other"),
        *("Bob", "Bob"),
        *("Ann", "Ann"),
    ]


async def test_where_there_is_no_room_for_a_series_it_is_counted_among_others() -> None:
    sums = Sums(Shared.make(2, arena_bytes=1 << 18, slots=4))
    for number in range(2000):
        sums.of[0].tokens(f"model-{number}", "input", "").inc()
        sums.of[0].duration("/v1/x", f"model-{number}").observe(0.1)
    found = await sums.read(1)
    counted = {name: value for name, value in found.items() if name.startswith("tokens_total")}
    assert sum(counted.values()) == 2000
    assert counted["tokens_total['other', 'other', 'other']"] > 1000


def book(shared: Shared, own: int, woken: list[int], now: Callable[[], float] = lambda: 1.0) -> SharedBook:
    return SharedBook(shared.arenas, own, shared.lock, woken.append, now)


def test_the_load_is_that_of_all_workers_and_readers_anywhere_are_told(shared: Shared) -> None:
    one, other = book(shared, 0, []), book(shared, 1, [])
    other.change(WHISPER, "held", 1)
    with one.follow() as reader:
        assert b'"inFlight":0,"held":1' in reader.lines()
        other.change(WHISPER, "in_flight", 2)
        other.change(WHISPER, "held", -1)
        one.change(WHISPER, "in_flight", 1)
        one.look()
        assert b'"inFlight":3,"held":0' in reader.lines()
        one.look()
        assert reader.lines() == b""
        shared.forget(1)
        one.look()
        assert b'"inFlight":1,"held":0' in reader.lines()
        for _ in range(2 * RING):
            other.change(WHISPER, "streams", 1)
        one.look()
        assert b'"streams":%d' % (2 * RING) in reader.lines()
        seen_last = one.of(WHISPER)
        shared.arenas[1]._changes = 0  # as a process has it that begins where another was
        book(shared, 1, []).change(WHISPER, "streams", 1)
        one.look()
        assert b'"streams":%d' % (2 * RING + 1) in reader.lines()
    assert seen_last == Counts(1, 0, 2 * RING)


def test_who_has_missed_changes_is_told_of_what_is_in_hand_and_of_what_is_over(shared: Shared) -> None:
    one, other = book(shared, 0, []), book(shared, 1, [])
    for number in range(3):
        for by in (1, -1):
            other.change(("models", f"rests-{number}"), "in_flight", by)
    other.change(WHISPER, "in_flight", 1)
    with one.follow() as reader:
        assert reader.lines().count(b"\n") == 1
        other.change(WHISPER, "in_flight", -1)
        for number in range(2 * RING):
            other.change(("models", "busy"), "streams", 1 - 2 * (number % 2))
        other.change(("models", "busy"), "held", 1)
        one.look()
        said = reader.lines()
    assert said.count(b"\n") == 2
    assert b'"whisper","inFlight":0' in said
    assert b'"busy","inFlight":0,"held":1' in said


def test_workers_take_turns_where_requests_wait_in_both(shared: Shared) -> None:
    woken: list[int] = []
    clock = iter(range(1, 100))
    one, other = (book(shared, own, woken, lambda: float(next(clock))) for own in range(2))
    one.wait_in_line(WHISPER, 2)
    other.wait_in_line(WHISPER, 3)
    assert (one.waiting_elsewhere(WHISPER), other.waiting_elsewhere()) == (3, 2)
    turns = []
    for left in ((1, 3), (1, 2), (0, 2)):
        turns.append([each.is_own_turn(WHISPER) for each in (one, other)])
        first = one if turns[-1][0] else other
        first.wait_in_line(WHISPER, left[0 if first is one else 1], turn=True)
    assert turns == [[True, False], [False, True], [True, False]]
    assert other.is_own_turn(WHISPER)
    assert other.has_turn_elsewhere(WHISPER) is False
    one.wait_in_line(WHISPER, 1)
    other.wait_in_line(WHISPER, 1, turn=True)
    assert (other.is_own_turn(WHISPER), other.has_turn_elsewhere(WHISPER)) == (False, True)
    shared.posts[0].beat = time.monotonic() - 5
    other.hears = shared.hears
    assert (other.is_own_turn(WHISPER), other.has_turn_elsewhere(WHISPER)) == (True, False), "it hangs"
    shared.posts[0].beat = time.monotonic() + 60
    assert other.has_turn_elsewhere(WHISPER), "it beats again"
    one.wait_in_line(WHISPER, 0)
    woken.clear()
    one.change(WHISPER, "in_flight", 1)
    one.change(WHISPER, "in_flight", -1)
    assert woken == [1], "a place was freed, and the other worker has somebody who waits"


async def test_who_does_not_see_that_a_model_runs_keeps_nobody_in_another_worker_waiting(
    shared: Shared,
) -> None:
    behind, ahead = House(IDLE, book=book(shared, 0, [])), House(IDLE, book=book(shared, 1, []))
    first = behind.ask()
    await turns()
    second = ahead.ask()
    await turns()
    behind.see()
    ahead.see(READY)
    await turns()
    with await asyncio.wait_for(second, 60):
        assert behind.book.waiting_elsewhere(PLACE) == 0
    with await asyncio.wait_for(ahead.ask(), 60):
        behind.see(READY)
        await turns()
        assert not first.done(), "its place is taken"
    behind.hold.call(PLACE)
    with await asyncio.wait_for(first, 60):
        pass
    assert not ahead.book.has_turn_elsewhere(PLACE)


def test_a_gateway_is_ready_when_all_have_read_the_cluster_and_stays_so_while_one_is_replaced(
    shared: Shared,
) -> None:
    shared.posts[0].state = State.READY
    assert [post.state for post in shared.posts] == [State.READY, State.ABSENT]
    shared.posts[1].state = State.READY
    shared.forget(1)
    assert shared.posts[1].state is State.REPLACED
    shared.posts[1].state = State.DRAINED
    shared.forget(1)
    assert shared.posts[1].state is State.REPLACED, "one that ended by itself is no reason against the others"
    shared.posts[1].state = State.STARTING
    shared.forget(1)
    assert shared.posts[1].state is State.ABSENT


async def test_what_processes_used_does_not_go_back_while_one_that_ended_is_not_counted_yet(
    shared: Shared,
) -> None:
    sums = Sums(shared)
    shared.posts[0].pid = os.getpid()
    before = await sums.read(1)
    shared.posts[0].pid = 0
    for own in range(2):
        found = await sums.read(own)
        assert found["process_cpu_seconds_total[]"] >= before["process_cpu_seconds_total[]"]


def test_what_is_kept_is_given_out_once_and_until_it_expires() -> None:
    now = [0.0]
    kept = Kept(lambda: now[0])
    kept.put("a", b"1", 10)
    kept.put("b", b"2", 10)
    assert (kept.get("a", take=True), kept.get("a", take=True)) == (b"1", None)
    assert (kept.get("b", take=False), kept.get("b", take=False)) == (b"2", b"2")
    now[0] = 10.0
    assert kept.get("b", take=False) is None
