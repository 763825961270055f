"""Endpoints that fail rest for a while, are probed by one request, and are never refused for it."""

from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import given

from roundhouse_gateway.ejection import FIRST_SECONDS, LONGEST_SECONDS, MOST_ERRORS, Ejections

M = "model"
NOW = float("inf")
"""For requests that were sent when everything before them was over."""


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ejections(clock: Clock) -> Ejections:
    return Ejections(clock)


def probe(ejections: Ejections, *base_urls: str) -> object:
    """A request that is sent to the only one of them that is due."""
    prober = object()
    assert len(ejections.among(M, base_urls, prober)) == 1
    return prober


def test_what_takes_no_connection_rests_at_once_and_another_model_goes_there_still(
    ejections: Ejections,
) -> None:
    assert ejections.failed(M, "a", NOW, at_once=True)
    assert ejections.among(M, ["a", "b"], object()) == ["b"]
    assert ejections.among("other", ["a", "b"], object()) == ["a", "b"]
    assert ejections.resting(M) == 1


def test_what_answers_that_it_failed_rests_when_it_has_done_so_again_and_again(ejections: Ejections) -> None:
    for _ in range(MOST_ERRORS - 1):
        assert not ejections.failed(M, "a", NOW, at_once=False)
    assert ejections.among(M, ["a", "b"]) == ["a", "b"]
    assert not ejections.answered(M, "a", NOW), "it has never rested"
    for number in range(1, MOST_ERRORS + 1):
        assert ejections.failed(M, "a", NOW, at_once=False) == (number == MOST_ERRORS)
    assert ejections.among(M, ["a", "b"]) == ["b"]


def test_a_rest_is_twice_as_long_after_each_probe_that_fails(ejections: Ejections, clock: Clock) -> None:
    ejections.failed(M, "a", NOW, at_once=True)
    expected = FIRST_SECONDS
    for _ in range(8):
        clock.now += expected / 2
        assert not ejections.is_due(M)
        assert ejections.among(M, ["a", "b"], object()) == ["b"]
        clock.now += expected / 2
        assert ejections.is_due(M)
        probe(ejections, "a", "b")
        assert not ejections.failed(M, "a", NOW, at_once=False), "it is the same ejection"
        expected = min(2 * expected, LONGEST_SECONDS)
    assert expected == LONGEST_SECONDS
    assert ejections.answered(M, "a", NOW)
    assert not ejections.troubled
    ejections.failed(M, "a", NOW, at_once=True)
    clock.now += FIRST_SECONDS
    assert ejections.is_due(M), "it begins anew"


def test_a_probe_is_one_until_it_is_over(ejections: Ejections, clock: Clock) -> None:
    ejections.failed(M, "a", NOW, at_once=True)
    clock.now += LONGEST_SECONDS
    prober = probe(ejections, "a", "b")
    assert not ejections.is_due(M)
    assert ejections.among(M, ["a", "b"], object()) == ["b"]
    ejections.leave(M, object())
    assert ejections.among(M, ["a", "b"], object()) == ["b"]
    ejections.leave(M, prober)
    assert ejections.among(M, ["a", "b"], object()) == ("a",)


def test_a_stream_that_has_begun_ends_the_rest_and_its_breaking_off_prolongs_the_next(
    ejections: Ejections, clock: Clock
) -> None:
    assert not ejections.began(M, "a", NOW)
    ejections.failed(M, "a", NOW, at_once=True)
    assert not ejections.began(M, "a", clock.now - 1), "it was on its way before"
    clock.now += FIRST_SECONDS
    prober = probe(ejections, "a", "b")
    assert ejections.began(M, "a", clock.now)
    assert not ejections.began(M, "a", clock.now), "it is back already"
    assert (ejections.among(M, ["a", "b"], object()), ejections.resting(M)) == (["a", "b"], 0)
    assert not ejections.is_due(M)
    assert not ejections.all_rest(M, ["a"])
    ejections.leave(M, prober)
    assert ejections.failed(M, "a", clock.now, at_once=False), "it rests again"
    assert ejections.resting(M) == 1
    clock.now += FIRST_SECONDS
    assert not ejections.is_due(M)
    clock.now += FIRST_SECONDS
    probe(ejections, "a", "b")
    assert ejections.began(M, "a", clock.now)
    assert not ejections.answered(M, "a", clock.now), "it was back"
    assert not ejections.troubled


def test_a_second_try_is_no_probe(ejections: Ejections, clock: Clock) -> None:
    ejections.failed(M, "a", NOW, at_once=True)
    clock.now += LONGEST_SECONDS
    assert ejections.among(M, ["a", "b"]) == ["b"]
    assert ejections.is_due(M)


def test_requests_that_were_on_their_way_do_not_prolong_a_rest(ejections: Ejections, clock: Clock) -> None:
    sent = clock.now
    for number in range(20):
        assert ejections.failed(M, "a", sent, at_once=True) == (number == 0)
    clock.now += FIRST_SECONDS / 2
    for_want_of_a_better_one = clock.now
    clock.now += FIRST_SECONDS / 2
    assert ejections.is_due(M)
    prober, probed = probe(ejections, "a", "b"), clock.now
    for each in (sent, for_want_of_a_better_one):
        assert not ejections.failed(M, "a", each, at_once=True)
    assert ejections.troubled[M]["a"].prober is prober, "it is under way still"
    clock.now += FIRST_SECONDS
    ejections.failed(M, "a", probed, at_once=True)
    clock.now += 2 * FIRST_SECONDS
    assert ejections.is_due(M), "its second rest"


def test_requests_that_were_on_their_way_do_not_end_a_rest(ejections: Ejections, clock: Clock) -> None:
    sent = clock.now
    clock.now += 1
    ejections.failed(M, "a", sent, at_once=True)
    assert not ejections.answered(M, "a", sent)
    assert ejections.resting(M) == 1
    assert ejections.answered(M, "a", clock.now)
    assert not ejections.troubled


def test_where_all_rest_the_least_bad_is_used(ejections: Ejections, clock: Clock) -> None:
    for each in ("a", "b", "c"):
        ejections.failed(M, each, NOW, at_once=True)
    assert ejections.all_rest(M, ["a", "b", "c"])
    clock.now += FIRST_SECONDS
    assert not ejections.all_rest(M, ["a", "b", "c"]), "one may be probed"
    for each in ("a", "b"):
        ejections.failed(M, each, NOW, at_once=True)
    assert ejections.among(M, ["a", "b", "c"]) == ["c"]
    assert ejections.among(M, ["a", "b"]) == ["a", "b"]
    assert ejections.sound(M, ["a", "b", "c", "d"]) == ["d"]
    assert not ejections.all_rest(M, ["a", "d"])
    assert not ejections.all_rest(M, [])


def test_what_is_gone_is_forgotten(ejections: Ejections) -> None:
    ejections.failed(M, "a", NOW, at_once=True)
    ejections.failed(M, "b", NOW, at_once=False)
    ejections.keep(M, ["a"])
    assert list(ejections.troubled[M]) == ["a"]
    ejections.keep(M, ["b"])
    assert not ejections.troubled


URLS = ("a", "b", "c")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sets(st.sampled_from(URLS), min_size=1)),
        st.tuples(st.just("fail"), st.tuples(st.sampled_from(URLS), st.booleans())),
        st.tuples(st.just("answer"), st.sampled_from(URLS)),
        st.tuples(st.just("begin"), st.sampled_from(URLS)),
        st.tuples(st.just("leave"), st.integers(0, 50)),
        st.tuples(st.just("wait"), st.floats(0, 2 * LONGEST_SECONDS)),
    ),
    max_size=30,
)


@given(STEPS)
def test_whatever_happens(steps: list[tuple[str, object]]) -> None:
    """There is always one to ask, a probe is one at a time, and an answer makes all good."""
    clock = Clock()
    ejections = Ejections(clock)
    probes: list[tuple[object, str]] = []
    for step in steps:
        match step:
            case ("ask", set(urls)):
                prober = object()
                found = ejections.among(M, sorted(urls), prober)
                assert found
                assert set(found) <= urls
                known = ejections.troubled.get(M, {})
                claimed = [url for url, each in known.items() if each.prober is prober]
                assert claimed in ([], list(found))
                for url in claimed:
                    assert url not in {at for _, at in probes}, "somebody probes it already"
                    probes.append((prober, url))
            case ("fail", (str(url), bool(at_once))):
                ejections.failed(M, url, NOW, at_once=at_once)
            case ("answer", str(url)):
                ejections.answered(M, url, NOW)
                assert ejections.sound(M, [url]) == [url]
            case ("begin", str(url)):
                ejections.began(M, url, NOW)
                assert ejections.sound(M, [url]) == [url]
            case ("leave", int(number)):
                for prober, _ in probes[number : number + 1]:
                    ejections.leave(M, prober)
            case ("wait", float(seconds)):
                clock.now += seconds
            case _:
                raise AssertionError(step)
        known = ejections.troubled.get(M, {})
        probes = [(prober, url) for prober, url in probes if url in known and known[url].prober is prober]
    for url in URLS:
        ejections.answered(M, url, NOW)
    assert not ejections.troubled
