"""Language names and codes as clients write them."""

import pytest

from roundhouse_engine.languages import NAMES, english_name, is_code, language_code


def test_the_table_is_whispers() -> None:
    assert len(NAMES) == 100
    assert NAMES["ht"] == "haitian creole"
    assert NAMES["yue"] == "cantonese"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("en", "en"),
        (" EN ", "en"),
        ("en-US", "en"),
        ("pt_BR", "pt"),
        ("English", "en"),
        ("zh-Hans", "zh"),
        ("nb-NO", "no"),
        ("deu", "de"),
        ("eng-GB", "en"),
        ("yue", "yue"),
        ("jv", "jw"),
        ("fil", "tl"),
    ],
)
def test_codes_regions_and_names_are_understood(value: str, code: str) -> None:
    assert language_code(value) == code


@pytest.mark.parametrize("value", ["", "xx", "klingon", "e", "12"])
def test_what_is_no_language_has_no_code(value: str) -> None:
    assert language_code(value) is None


def test_an_unknown_code_is_its_own_name() -> None:
    assert english_name("und") == "und"


def test_codes_are_told_from_what_is_none() -> None:
    assert all(map(is_code, NAMES))
    assert all(map(is_code, ("ga", "cy", "ast", "yue")))
    assert not any(map(is_code, ("jp", "cn", "deu", "EN", "english", "", "zz", "e1")))
