"""What became of a request's texts: the first that failed fails the request. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from roundhouse_engine.batching import Outcome
from roundhouse_engine.errors import EngineError
from roundhouse_engine.text_events import Spoiled


def computed(outcomes: Sequence[Outcome | None], param: str) -> list[Outcome]:
    """All of them; raises `EngineError` where a text could not be computed, and says which."""
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, Spoiled):
            problem = outcome.problem
            where = f"{param}[{index}]: " if len(outcomes) > 1 else ""
            named = problem.param or (param if problem.status == 400 else None)
            raise EngineError(replace(problem, param=named, message=where + problem.message))
    return [outcome for outcome in outcomes if outcome is not None]


def usage(outcomes: Sequence[Outcome]) -> dict[str, int]:
    tokens = sum(outcome.tokens for outcome in outcomes if not isinstance(outcome, Spoiled))
    return {"prompt_tokens": tokens, "total_tokens": tokens}
