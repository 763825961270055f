"""What Whisper writes to segments, as the transformers engine divides it. Tokens from 100 on are times."""

from dataclasses import dataclass

import pytest

from roundhouse_transformers.dividing import Spoken, divide

SECONDS = 20.0


@dataclass(frozen=True)
class Case:
    id: str
    tokens: tuple[int, ...]
    segments: tuple[tuple[float, float, tuple[int, ...]], ...]
    rest: float | None = None
    whole: bool = True


CASES = [
    Case("nothing", (), ()),
    Case("silence", (100, 110), ()),
    Case("one", (100, 1, 2, 104), ((0, 4, (1, 2)),)),
    Case("two", (101, 1, 104, 106, 2, 3, 109), ((1, 4, (1,)), (6, 9, (2, 3)))),
    Case("no times", (1, 2), ((0, 20, (1, 2)),)),
    Case("no time at the end", (100, 1, 104, 105, 2), ((0, 4, (1,)), (5, 20, (2,)))),
    Case("beyond the end", (100, 1, 125), ((0, 20, (1,)),)),
    Case("it breaks off", (100, 1, 104, 106), ((0, 4, (1,)),), rest=6),
    Case("it is cut in the second", (100, 1, 104, 105, 2, 3), ((0, 4, (1,)),), rest=5, whole=False),
    Case("it is cut in the first", (100, 1, 2), ((0, 20, (1, 2)),), whole=False),
    Case("it is cut after a time", (100, 1, 104), ((0, 4, (1,)),), rest=4, whole=False),
    Case("it is cut after two times", (100, 1, 104, 106), ((0, 4, (1,)),), rest=6, whole=False),
    Case("it came no further", (100, 1, 100, 2), ((0, 0, (1,)), (0, 20, (2,))), whole=False),
    Case("back in time", (104, 1, 102), ((4, 4, (1,)),)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_answer_is_divided_by_its_times(case: Case) -> None:
    def time_of(token: int) -> float | None:
        return float(token - 100) if token >= 100 else None

    found = divide(case.tokens, SECONDS, time_of, whole=case.whole)
    assert found == ([Spoken(*each) for each in case.segments], case.rest)
