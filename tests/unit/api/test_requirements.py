"""The list of required behaviours, and the count of those that tests name."""

from __future__ import annotations

from collections import Counter

from tests.requirements import LIST, Mark, Requirement, marks, read_list, report

REQUIRED = {
    "S1-1": Requirement("S1-1", "first", history=False),
    "S1-2": Requirement("S1-2", "second", history=False),
    "S1-3": Requirement("S1-3", "third", history=True),
}


def test_the_list_is_complete_and_in_order() -> None:
    listed = read_list(LIST.read_text())
    sizes = {"S0": 25, "S1": 29, "S2": 30, "S3": 28, "S4": 30}
    expected = [f"{group}-{number}" for group, size in sizes.items() for number in range(1, size + 1)]
    assert list(listed) == expected
    history = [number for number, each in listed.items() if each.history]
    assert history == ["S0-22", "S0-23", "S3-22", "S3-23", "S3-24", "S3-25"]
    assert [text for text, times in Counter(each.text for each in listed.values()).items() if times > 1] == []


def test_marks_are_read_without_importing() -> None:
    source = """
import not_installed
pytestmark = pytest.mark.req("S1-3")

class TestIt:
    @pytest.mark.req("S1-1", "S1-2")
    @pytest.mark.parametrize("req", ["S1-9"])
    async def test_it(self): ...
"""
    assert sorted(mark.number for mark in marks(source, "t.py")) == ["S1-1", "S1-2", "S1-3"]
    assert {mark.place for mark in marks(source, "t.py")} == {"t.py:3", "t.py:6"}


def test_what_no_test_names_is_printed_and_history_is_not_counted() -> None:
    assert report(REQUIRED, [Mark("S1-1", "t.py:1")]) == (
        "S1-2  second\n1 of 2 required behaviours are named by a test\n",
        True,
    )


def test_a_mark_outside_of_the_list_is_an_error() -> None:
    text, good = report(REQUIRED, [Mark("S1-1", "t.py:1"), Mark("S1-16x", "t.py:7")])
    assert not good
    assert "t.py:7: 'S1-16x' is not in docs/reference/requirements.md" in text
