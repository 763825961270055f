"""Words become segments: nothing is lost, nothing is added, and no segment is longer than it may be."""

from hypothesis import given
from hypothesis import strategies as st

from roundhouse_gateway.speech.cues import Limits, segments_of
from roundhouse_gateway.speech.heard import Word

NO_LIMITS = Limits(1e9, 1e9, 10**9)


def test_a_segment_ends_at_a_sentence_a_pause_and_a_change_of_speaker() -> None:
    words = [
        Word("Hello", 0.0, 0.4, speaker="A"),
        Word("there.", 0.4, 0.8, speaker="A"),
        Word("Good", 0.9, 1.1, speaker="A"),
        Word("day", 1.1, 1.3, speaker="B"),
        Word("now", 3.0, 3.2, speaker="B"),
    ]
    found = segments_of(words, "en")
    assert [(each.text, each.start, each.end, each.speaker) for each in found] == [
        ("Hello there.", 0.0, 0.8, "A"),
        ("Good", 0.9, 1.1, "A"),
        ("day", 1.1, 1.3, "B"),
        ("now", 3.0, 3.2, "B"),
    ]


def test_languages_without_spaces_have_none() -> None:
    assert segments_of([Word("今日", 0, 1), Word("は", 1, 2)], "ja", NO_LIMITS)[0].text == "今日は"


@st.composite
def spoken(draw: st.DrawFn) -> list[Word]:
    words, at = [], 0.0
    for text in draw(st.lists(st.text("abc.", min_size=1, max_size=12), max_size=40)):
        start = at + draw(st.floats(0, 2))
        at = start + draw(st.floats(0.01, 1))
        words.append(Word(text, start, at))
    return words


@given(spoken())
def test_every_word_is_in_one_segment_and_limits_hold(words: list[Word]) -> None:
    limits = Limits()
    found = segments_of(words, "en", limits)
    assert [word for segment in found for word in segment.words or ()] == words
    assert " ".join(segment.text for segment in found) == " ".join(word.word for word in words)
    for segment in found:
        inside = segment.words or ()
        assert (segment.start, segment.end) == (inside[0].start, inside[-1].end)
        if len(inside) > 1:
            assert segment.end - segment.start <= limits.seconds
            assert len(segment.text) <= limits.characters
